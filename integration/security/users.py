"""Who a process is: numbers and names, hostile passwd files, groups; what an image says about environment, labels, directories."""
from lab import *

busybox()


def ids(*words):
    return rcon(*words)


# CVE-2026-30892, 2024-40635, 2016-3697: a user that is no number or does not fit became 0.
rcon("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
for user, wanted in [("1", "1"), ("1:", "1"), ("1:1", "1"), ("0001", "1"), ("2147483648", "2147483648"), ("4294967294", "4294967294")]:
    for name, words in [("run", ["run", "--rm", "--network", "none", "-u", user, "busybox"]), ("exec", ["exec", "-u", user, "box"])]:
        result = rcon(*words, "id", "-u")
        held("CVE-2026-30892", f"{name} -u {user} is another user than that", result.out.strip() == wanted, result)
bad = []
for user in ["4294967295", "4294967296", "18446744073709551616", "18446744073709551615", "-1", "+0", "0x0", "1.5", " 0", "0 ", "1e9", "nobody2", ":0:0", "0:4294967296",
             "1000:-1", "root ", "\u0661"]:
    for words in (["run", "--rm", "--network", "none", "-u", user, "busybox"], ["exec", "-u", user, "box"]):
        result = rcon(*words, "id", "-u")
        if result.code == 0:
            bad.append((words[0], user, result.out))
held("CVE-2024-40635", "users that are no user: too large, negative, not decimal, unknown", not bad, bad)
load("over", config={"User": "4294967296"})
held("CVE-2024-40635", "the image's USER overflows", run("over", "id", "-u").code != 0)
load("minus", config={"User": "-1"})
held("CVE-2024-40635", "the image's USER is negative", run("minus", "id", "-u").code != 0)

# CVE-2016-3697: a name made of digits in the image's passwd file.
load("digits", layer(entry("etc/passwd", data="1000:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n", mode=0o644)))
held("CVE-2016-3697", "passwd has a user named 1000 with uid 0", run("-u", "1000", "digits", "id", "-u").out.strip() == "1000")
held("CVE-2026-46680", "passwd has a user named 4294967296 with uid 0", run("-u", "4294967296", "digits", "id", "-u").code != 0)
load("grouped", layer(entry("etc/group", data="1000:x:0:\n5:x:0:nobody\n", mode=0o644)))
held("CVE-2016-3697", "group has a group named 1000 with gid 0", run("-u", "1:1000", "grouped", "id", "-g").out.strip() == "1000")

# CVE-2026-47262, 2025-4437: passwd is endless, a pipe, a device, a link to the host.
huge = b"x" * (11 << 20)
host_name = WORK + "/passwd"
with open(host_name, "w") as file:
    file.write("hostonly:x:0:0::/:/bin/sh\n")
for name, trick in [("huge", entry("etc/passwd", data=huge)), ("pipe", entry("etc/passwd", tarfile.FIFOTYPE)),
                    ("zero", entry("etc/passwd", tarfile.CHRTYPE, device=(1, 5))), ("folder", directory("etc/passwd")),
                    ("climb", symlink("etc/passwd", "../../../../../../../../.." + host_name)), ("absolute", symlink("etc/passwd", host_name)),
                    ("magic", symlink("etc/passwd", "/proc/self/root" + host_name)), ("loop", symlink("etc/passwd", "passwd"))]:
    load("pw" + name, layer(trick))
    result = run("-u", "hostonly", "pw" + name, "id", "-u", limit=60)
    held("CVE-2026-47262", f"the image's passwd is {name}", result.code not in (0, -1), result)
load("good", layer(entry("etc/passwd", data=read(host_name), mode=0o644)))
control("CVE-2026-47262", "the same user in an ordinary file", run("-u", "hostonly", "good", "id", "-u").out.strip() == "0")
rcon("run", "-d", "--name", "later", "--network", "none", "busybox", "sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd; echo ready; sleep 1000")
wait_for(lambda: "ready" in rcon("logs", "later").out)
held("CVE-2026-47262", "exec after the container made passwd a pipe", rcon("exec", "-u", "daemon", "later", "id", limit=60).code not in (0, -1))

# CVE-2022-36109, 2022-2989 …: groups of the caller or group 0 stay.
result = run("-u", "1000:1000", "busybox", "probe")
held("CVE-2022-36109", "a user has groups that it is not in", json.loads(result.out)["status"]["Groups"] == "1000", result)
result = command("setpriv", "--groups", "0,4,27", *ENGINE, "run", "--rm", "--network", "none", "-u", "1000:1000", "busybox", "probe")
held("CVE-2022-36109", "groups of the engine's caller stay", json.loads(result.out or "{}").get("status", {}).get("Groups") == "1000", result)
bundle = Bundle("probe")
bundle.process["user"] = {"uid": 7, "gid": 8}
bundle.write()
result = command("setpriv", "--groups", "0,4,27", *bundle.words(), "run", "-b", bundle.path, bundle.id)
held("CVE-2022-36109", "the same with a bundle", json.loads(result.out or "{}").get("status", {}).get("Groups") == "", result)
result = command("setpriv", "--groups", "0,4,27", "id", "-G")
control("CVE-2022-36109", "the caller has those groups", "27" in result.out.split(), result)

# CVE-2026-57231: the image's Env without "=" takes the engine's value; CVE-2022-4318: a line break in what is written to files.
load("env", config={"Env": ["PATH=/bin", "RCON_SECRET", "RCON_*", "=x"]})
result = run("env", "env", env=os.environ | {"RCON_SECRET": "leaked"})
held("CVE-2026-57231", "the image's Env names a variable of the engine's", result.code != 0 or "leaked" not in result.out, result)
result = run("-e", "RCON_SECRET", "busybox", "env", env=os.environ | {"RCON_SECRET": "given"})
control("CVE-2026-57231", "-e NAME passes it on, as asked", "given" in result.out, result)
for flag in (["--hostname", "a\n1.2.3.4 evil"], ["--domainname", "a\nb"], ["--add-host", "x\n1.2.3.4 evil:1.1.1.1"], ["--dns", "1.1.1.1\nsearch evil"],
             ["--dns-search", "a\nnameserver 6.6.6.6"], ["-e", "HOME=/\nevil:x:0:0::/:/bin/sh"]):
    result = run(*flag, "busybox", "sh", "-c", "cat /etc/hosts /etc/resolv.conf /etc/hostname /etc/passwd")
    held("CVE-2022-4318", f"{flag[0]} with a line break adds a line to a file", result.code != 0 or "\nevil:" not in result.out and "evil" not in result.out, result)

# CVE-2026-53488: labels are only data.
load("label", config={"Labels": {"containerd.io/restart.loguri": "binary:///bin/touch?x=" + WORK + "/owned", "rcon.privileged": "true", "io.kubernetes.x": "y"}})
result = run("label", "probe")
held("CVE-2026-53488", "labels of an image start a logger or give rights", not os.path.exists(WORK + "/owned") and json.loads(result.out)["status"]["CapEff"] == "00000000a80425fb", result)

# CVE-2026-55686: WORKDIR through a link is made on the host.
target = WORK + "/made-by-workdir"
for name, link in [("up", "../../../../../../../../.." + WORK), ("absolute", WORK), ("root", "/proc/self/root" + WORK)]:
    load("wd" + name, layer(symlink("way", link)), config={"WorkingDir": "/way/made-by-workdir", "User": "1000"})
    result = run("wd" + name, "pwd")
    held("CVE-2026-55686", f"WORKDIR through a link ({name}) is made on the host", not os.path.exists(target), result)
    bundle = Bundle("pwd")
    os.symlink(link, bundle.rootfs + "/way")
    bundle.process["cwd"] = "/way/made-by-workdir"
    result = bundle.run()
    held("CVE-2026-55686", f"the same with a bundle ({name})", not os.path.exists(target), result)

# CVE-2021-41091, 2021-21284, 2024-25621: other users of the host walk into the engine's directories.
for root in (WORK + "/data", WORK + "/run"):
    mode = os.stat(root).st_mode & 0o777
    held("CVE-2021-41091", f"{os.path.basename(root)} root is open to others", mode & 0o077 in (0, 0o011, 0o010), oct(mode))
os.chmod(WORK, 0o755)
load("suidfile", layer(entry("bin/escalate", data=b"x", mode=0o4755)))
result = command("setpriv", "--reuid", "65534", "--clear-groups", "find", WORK + "/data", "-perm", "-4000")
held("CVE-2021-41091", "another user finds setuid files of layers", "escalate" not in result.out, result)
control("CVE-2021-41091", "root finds them", "escalate" in command("find", WORK + "/data", "-perm", "-4000").out)

# CVE-2021-21334: one container's environment in another's.
run("-e", "ONLY=first", "busybox", "true")
held("CVE-2021-21334", "environment of one container in the next", "ONLY" not in run("busybox", "env").out)
finish()
