#!/usr/bin/env python3
"""run.py --rcon BINARY --rootfs TEMPLATE [--json FILE] [--only REGEXP] [--except REGEXP] [--runtimes runc,crun,rcon] [--jobs 2]

The conformance table: every case of cases/ against runc, crun and rcon. A case fails the table when rcon does not pass
it, or when a peer does not pass and the case does not say why rcon is right. Each runtime is tried in a mount, network
and UTS namespace of its own, so that nothing reaches the host but cgroups, which the cases remove.
"""

import argparse
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import differs  # noqa: E402
import harness  # noqa: E402


def load_cases(only, leave_out):
    """Every case of the package, in the order of its files."""
    directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
    for module in sorted(m.name for m in pkgutil.iter_modules([directory])):
        importlib.import_module(f"cases.{module}")
    names = [c.name for c in harness.CASES]
    twice = {n for n in names if names.count(n) > 1}
    assert not twice, f"two cases of one name: {twice}"
    explained = differs.explanations(os.path.exists("/sys/fs/cgroup/cgroup.controllers"))
    strangers = set(explained) - set(names)
    assert not strangers, f"explanations of no case: {strangers}"
    for case in harness.CASES:
        case.differs = explained.get(case.name, {})
    return [c for c in harness.CASES if re.search(only, c.name) and not (leave_out and re.search(leave_out, c.name))]


def runtime_of(name, arguments, work):
    """The binary, its global flags, and whether it can have cgroups on this host."""
    root = os.path.join(work, "state")
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    if name == "rcon":
        link = os.path.join(work, "rcon-runtime")
        os.symlink(os.path.realpath(arguments.rcon), link)
        return harness.Runtime(name, [link], root)
    if name == "crun" and os.environ.get("CONFORMANCE_HYBRID") == "1":
        return harness.Runtime(name, ["crun", "--cgroup-manager=disabled"], root, cgroups=False)
    if name == "crun":
        return harness.Runtime(name, ["crun", "--cgroup-manager=cgroupfs"], root, cgroups=v2)
    return harness.Runtime(name, [name], root)


def try_case(runtime, work, template, number, case):
    """Outcome, text and seconds of one case with one runtime."""
    began = time.monotonic()
    t = harness.T(runtime, work, template, number)
    try:
        case.function(t)
        outcome, text = "pass", ""
    except harness.NotHere as error:
        outcome, text = "n/a", str(error)
    except harness.Refused as error:
        outcome, text = "refused", str(error)
    except Exception as error:  # a case that breaks on the way is a case not passed
        outcome = "FAIL"
        text = str(error) if isinstance(error, harness.Broken) else f"{type(error).__name__}: {error}"
    finally:
        t.clean()
    return {"case": case.name, "outcome": outcome, "text": text, "seconds": round(time.monotonic() - began, 3)}


def worker(name, arguments):
    """All cases with one runtime; one JSON line per case on stdout."""
    harness.become_subreaper()
    cases = load_cases(arguments.only, arguments.leave_out)
    work = tempfile.mkdtemp(prefix="rc.", dir=os.environ.get("TMPDIR", "/tmp"))
    os.chmod(work, 0o755)  # a mapped root of a user namespace must get through
    try:
        runtime = runtime_of(name, arguments, work)
        template = os.path.join(work, "template")
        shutil.copytree(arguments.rootfs, template, symlinks=True)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            tries = [pool.submit(try_case, runtime, work, template, n, c) for n, c in enumerate(cases)]
            for done in tries:
                print(json.dumps(done.result()), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def in_namespaces(name, arguments):
    """Runs `worker` for one runtime in namespaces of its own; its results by case."""
    again = [sys.executable, "-B", os.path.abspath(__file__), "--worker", name, "--rcon", arguments.rcon,
             "--rootfs", arguments.rootfs, "--only", arguments.only, "--except", arguments.leave_out, "--jobs", str(arguments.jobs)]
    setup = "ip link set lo up; "
    env = dict(os.environ)
    if name == "crun" and os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        # crun refuses the hybrid layout at all once a controller is on v2; beneath a bind mount it sees only the v2 tree.
        setup += "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; "
        env["CONFORMANCE_HYBRID"] = "1"
    argv = ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-c", setup + 'exec "$@"', "sh", *again]
    results = {}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, text=True) as child:
        for line in child.stdout:
            result = json.loads(line)
            results[result["case"]] = result
            if arguments.verbose:
                print(f"  {name} {result['case']}: {result['outcome']} {result['text']} ({result['seconds']} s)", flush=True)
    if child.returncode != 0:
        sys.exit(f"the cases of {name} did not finish")
    return results


def judge(cases, results, runtimes):
    """What the table says of each case: problems that fail it, and explanations that no longer hold."""
    problems, stale, moody = [], [], differs.sometimes()
    for case in cases:
        rcon = results.get("rcon", {}).get(case.name)
        if rcon and rcon["outcome"] not in ("pass", "n/a"):
            problems.append(f"{case.name}: rcon {rcon['outcome']}: {rcon['text']}")
        for peer in runtimes:
            if peer == "rcon":
                continue
            got = results[peer][case.name]
            if got["outcome"] in ("refused", "FAIL") and peer not in case.differs:
                problems.append(f"{case.name}: {peer} differs without an explanation: {got['outcome']}: {got['text']}")
            if got["outcome"] == "pass" and peer in case.differs and peer not in moody.get(case.name, {}):
                stale.append(f"{case.name}: {peer} passes, yet: {case.differs[peer]}")
    return problems, stale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rcon", default="rcon")
    parser.add_argument("--rootfs", required=True)
    parser.add_argument("--json")
    parser.add_argument("--only", default="")
    parser.add_argument("--except", dest="leave_out", default="")
    parser.add_argument("--runtimes", default="runc,crun,rcon")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments)
    began = time.monotonic()
    cases = load_cases(arguments.only, arguments.leave_out)
    runtimes = arguments.runtimes.split(",")
    results = {name: in_namespaces(name, arguments) for name in runtimes}
    width = max(len(c.name) for c in cases)
    print(f"{'case':{width}}  " + "  ".join(f"{r:7}" for r in runtimes) + "  paragraph")
    for case in cases:
        row = "  ".join(f"{results[r][case.name]['outcome']:7}" for r in runtimes)
        print(f"{case.name:{width}}  {row}  {case.anchor}")
        for peer, why in case.differs.items():
            if peer in results and results[peer][case.name]["outcome"] in ("refused", "FAIL"):
                print(f"{'':{width}}    {peer}: {why}")
    problems, stale = judge(cases, results, runtimes)
    if arguments.json:
        rows = [{"case": c.name, "paragraph": c.anchor, "demand": c.demand, "differs": c.differs,
                 "results": {r: results[r][c.name] for r in runtimes}} for c in cases]
        with open(arguments.json, "w") as file:
            json.dump({"cases": rows, "problems": problems, "stale": stale}, file, indent=1)
    for line in stale:
        print(f"stale: {line}")
    for line in problems:
        print(f"PROBLEM: {line}")
    passed = {r: sum(results[r][c.name]["outcome"] == "pass" for c in cases) for r in runtimes}
    print(f"{len(cases)} cases in {time.monotonic() - began:.0f} s; passed: " + ", ".join(f"{r} {n}" for r, n in passed.items()))
    failed = {line.split(":")[0] for line in problems}
    print(f"conformance: {len(cases) - len(failed)} passed, {len(failed)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
