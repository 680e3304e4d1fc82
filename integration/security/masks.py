"""Masked and read-only paths, each of them; the flags of the default mounts."""
from lab import *

busybox()
PROBE = "; ".join(f"stat -c '{path} %F %t:%T %s' {path}; ls -A {path} 2>/dev/null | head -n 1; head -c 1 {path} 2>/dev/null | wc -c" for path in MASKED)


def covered(text):
    """Paths that exist and are neither the null device nor an empty directory."""
    lines, bad, index = text.splitlines(), [], 0
    for path in MASKED:
        mine = [line for line in lines if line.startswith(path + " ")]
        if mine and "character special file 1:3" not in mine[0] and "directory" not in mine[0]:
            bad.append(mine[0])
        if mine and "directory" in mine[0]:
            at = lines.index(mine[0])
            if at + 1 < len(lines) and lines[at + 1] not in ("0", "1") and not lines[at + 1].startswith("/"):
                bad.append(mine[0] + " holds " + lines[at + 1])
    return bad, len([line for line in lines if line.startswith(("/proc", "/sys"))])


WRITE = ("for p in /proc/sys/kernel/panic /proc/sysrq-trigger /proc/irq/default_smp_affinity; do (echo 0 > $p) 2>/dev/null && echo wrote $p; done; "
         "for p in /proc/bus /proc/fs /proc/irq /proc/sys; do grep -q \" $p proc ro\" /proc/mounts || test ! -e $p || echo writable $p; done; "
         "for p in /sys /sys/kernel /sys/fs/cgroup; do mkdir $p/x 2>/dev/null && echo made $p/x; done; (echo 1 > /sys/kernel/mm/ksm/run) 2>/dev/null && echo wrote ksm; echo end")


def flags(text):
    """Mount point to options, of /proc/mounts lines."""
    return {line.split()[1]: set(line.split()[3].split(",")) for line in text.splitlines() if line.startswith(tuple("abcdefghijklmnopqrstuvwxyz"))}


def bundle(script, **sections):
    made = Bundle("sh", "-c", script)
    made.linux.update(sections)
    return made


for name, start in [("engine", lambda script: run("busybox", "sh", "-c", script)), ("bundle", lambda script: bundle(script).run())]:
    result = start(PROBE)
    bad, seen = covered(result.out)
    held("masked paths", f"{name}: read what is masked ({seen} of {len(MASKED)} exist here)", seen >= 4 and not bad, bad or result)
    result = start(WRITE)
    held("read-only paths", f"{name}: write to /proc/sys, sysrq-trigger, /sys, /sys/fs/cgroup (CVE-2023-25809)", result.out.strip() == "end", result)
    result = start("umount /proc/kcore || umount -l /proc/sys || mount -o remount,rw /proc/sys || mount -t proc p /tmp && echo undone")
    held("masked paths", f"{name}: take a mask off, or mount procfs anew", "undone" not in result.out, result)
    points = flags(start("cat /proc/mounts").out)
    wanted = {"/proc": {"nosuid", "noexec", "nodev"}, "/sys": {"ro", "nosuid", "noexec", "nodev"}, "/dev": {"nosuid"}, "/dev/pts": {"nosuid", "noexec"}}
    if name == "engine":
        wanted |= {"/dev/shm": {"nosuid", "noexec", "nodev"}, "/dev/mqueue": {"nosuid", "noexec", "nodev"}, "/dev": {"nosuid", "noexec"}}
    held("mounts", f"{name}: flags of the default mounts", all(options <= points.get(point, set()) for point, options in wanted.items()), points)

open_all = bundle(PROBE, maskedPaths=[], readonlyPaths=[]).run()
control("masked paths", "the same look without masks", covered(open_all.out)[0] != [], open_all)
result = bundle("(echo 60 > /proc/sys/kernel/msgmni) && echo wrote", maskedPaths=[], readonlyPaths=[]).run()
control("read-only paths", "the same write without read-only paths (a sysctl of the container's own)", "wrote" in result.out, result)

# A mask over a link in the image must cover what the link names, and never leave the root.
outside = WORK + "/outside"
os.makedirs(outside + "/below")
trap = bundle("cat /link/file; cat /plain; ls /empty", maskedPaths=["/link", "/plain", "/empty", "/absent", "/plain/below"])
trap.linux["maskedPaths"].pop()
os.symlink(outside, trap.rootfs + "/link")
open(trap.rootfs + "/plain", "w").write("secret")
os.makedirs(trap.rootfs + "/empty")
open(trap.rootfs + "/empty/file", "w").write("secret")
result = trap.run()
held("masked paths", "a mask over a link to the host", "secret" not in result.out and os.path.isdir(outside + "/below"), result)
strange = bundle("true", maskedPaths=["/bin/busybox/below"])
held("masked paths", "a mask that cannot be made fails the start", strange.run().code != 0)
finish()
