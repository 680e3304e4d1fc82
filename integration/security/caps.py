"""Capabilities: inheritable sets, exec, other users, no_new_privs."""
import base64
import struct

from lab import *


def status(text):
    """CapXxx lines of a probe's JSON."""
    return json.loads(text)["status"] if text.startswith("{") else {}


busybox()

# CVE-2022-24769, 2022-29162, 2022-27649/50/51: a file with inheritable capabilities gives them to whoever holds them inheritable.
# struct vfs_cap_data, revision 2 (linux/capability.h): permitted none, inheritable CAP_NET_RAW (13).
file_caps = struct.pack("<IIIII", 0x02000000 | 1, 0, 1 << 13, 0, 0)
probe = tarfile.open(base_layer()).extractfile("./bin/probe").read()
capped = layer(entry("bin/capped", data=probe, pax={"SCHILY.xattr.security.capability": file_caps.decode("latin-1")}))
# Python writes PAX values as UTF-8: the value above has only bytes below 0x80, so it is what it says.
load("capped", capped)
for name, words in [("run", ["run", "--rm", "--network", "none", "-u", "1000", "capped", "/bin/capped"])]:
    seen = status(rcon(*words).out)
    held("CVE-2022-24769 …", "a file with inheritable capabilities gains them for a user", seen.get("CapPrm") == "0" * 16, seen)
rcon("run", "-d", "--name", "box", "--network", "none", "capped", "sleep", "1000")
seen = status(rcon("exec", "-u", "1000", "box", "/bin/capped").out)
held("CVE-2022-29162", "the same by exec", seen.get("CapPrm") == "0" * 16, seen)
for flags in ([], ["-u", "1000"]):
    seen = status(rcon("exec", *flags, "box", "probe").out)
    held("CVE-2022-24769", f"exec {' '.join(flags)} has inheritable or ambient capabilities", (seen.get("CapInh"), seen.get("CapAmb")) == ("0" * 16,) * 2, seen)
bundle = Bundle("/bin/capped")
with open(bundle.rootfs + "/bin/capped", "wb") as file:
    file.write(probe)
os.chmod(bundle.rootfs + "/bin/capped", 0o755)
os.setxattr(bundle.rootfs + "/bin/capped", "security.capability", file_caps)
bundle.process["user"] = {"uid": 1000, "gid": 1000}
seen = status(bundle.run().out)
held("CVE-2022-29162", "a bundle without an inheritable set", seen.get("CapInh") == "0" * 16 and seen.get("CapPrm") == "0" * 16, seen)
bundle.process["capabilities"]["inheritable"] = DEFAULT_CAPS
seen = status(bundle.run().out)
control("CVE-2022-29162", "the file's capability works where the config makes it inheritable", seen.get("CapPrm") == "0000000000002000", seen)

# CVE-2025-27612: exec got more than its container.
rcon("run", "-d", "--name", "none", "--cap-drop", "ALL", "--network", "none", "busybox", "sleep", "1000")
seen = status(rcon("exec", "none", "probe").out)
held("CVE-2025-27612", "exec into a container without capabilities", {seen.get(k) for k in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}, seen)
bundle = Bundle("sleep", "1000")
bundle.process["capabilities"] = {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective")}
bundle.start()
seen = status(bundle.execute("probe").out)
held("CVE-2025-27612", "the same with a bundle", {seen.get(k) for k in ("CapEff", "CapPrm", "CapBnd")} == {"0000000000000020"}, seen)
bundle.delete()
bundle = Bundle("probe")
del bundle.process["capabilities"]
seen = status(bundle.run().out)
held("capabilities", "a config that names none gives none", {seen.get(k) for k in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}, seen)

# Defaults, users, unknown names.
seen = status(run("busybox", "probe").out)
held("capabilities", "the default is Docker's 14, bounding too", {seen.get(k) for k in ("CapEff", "CapPrm", "CapBnd")} == {"00000000a80425fb"}, seen)
seen = status(run("-u", "1000", "busybox", "probe").out)
held("capabilities", "another user than root keeps some", {seen.get(k) for k in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}, seen)
held("capabilities", "an unknown name is taken for nothing", run("--cap-drop", "NO_SUCH", "busybox", "true").code == 125)

# no_new_privs: setuid programs gain nothing.
suid = layer(entry("bin/suid", data=probe, mode=0o4755))
load("suid", suid)
seen = status(run("--security-opt", "no-new-privileges", "-u", "1000", "suid", "/bin/suid").out)
held("no_new_privs", "a setuid program in the image makes root", seen.get("Uid") == "1000 1000 1000 1000" and seen.get("CapEff") == "0" * 16, seen)
seen = status(run("-u", "1000", "suid", "/bin/suid").out)
control("no_new_privs", "the setuid program works without the option", seen.get("Uid") == "1000 0 0 0", seen)
finish()
