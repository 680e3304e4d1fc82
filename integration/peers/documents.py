"""documents.py REFERENCE OURS: every key of Docker's `inspect` document is in ours, with a value of the same type.

Null fits every type (Go writes nil slices and maps so). Ours may have more keys. Prints what is wrong, a line each."""

import json
import sys

# Keys that newer engines dropped or that name what only a daemon has; each with why ours has none.
ABSENT = {
    "KernelMemory": "no kernel has it any more",
    "KernelMemoryTCP": "no kernel has it any more",
    "Container": "the container an image was built in is Docker's classic builder's",
    "ContainerConfig": "as Container",
    "DockerVersion": "only where the image says so",
    "VirtualSize": "dropped by Docker: the same as Size",
    "Parent": "images have no parents here, only layers",
}
# Maps whose keys are names: only the values are compared, the first of each.
NAMED = {"Labels", "Ports", "Networks", "Options", "Volumes", "ExposedPorts", "Containers", "Sysctls", "Tmpfs", "Data", "PortBindings", "Annotations"}


def kind(value):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return type(value).__name__


def compare(wanted, got, path, wrong):
    if wanted is None or got is None:
        return
    if kind(wanted) != kind(got):
        wrong.append(f"{path}: {kind(got)} instead of {kind(wanted)}")
    elif isinstance(wanted, list):
        if wanted and got:
            compare(wanted[0], got[0], path + "[0]", wrong)
    elif isinstance(wanted, dict) and path.rsplit(".", 1)[-1] in NAMED:
        for key in wanted:
            other = got.get(key, next(iter(got.values()), None))
            compare(wanted[key], other, f"{path}[{key}]", wrong)
    elif isinstance(wanted, dict):
        for key, value in wanted.items():
            if key in got:
                compare(value, got[key], f"{path}.{key}", wrong)
            elif key not in ABSENT:
                wrong.append(f"{path}.{key}: missing")


def main():
    wrong = []
    with open(sys.argv[1]) as reference, open(sys.argv[2]) as ours:
        compare(json.load(reference)[0], json.load(ours)[0], "", wrong)
    print("\n".join(wrong))


main()
