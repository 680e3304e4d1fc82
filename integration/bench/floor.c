/* floor LOWER WORK net|none: makes the kernel objects of one default container (namespaces, overlay root, the usual
 * mounts, a cgroup, with "net" a veth pair on a bridge is left out: netlink is measured by the engines), runs /bin/true in
 * it and takes all down. Nothing else: the time below which no engine can go on this machine. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) err(1, "%s", path);
    close(fd);
}

static void mounted(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    if (mount(source, target, type, flags, data)) err(1, "mount %s", target);
}

int main(int argc, char **argv) {
    if (argc != 4) errx(2, "usage: floor LOWER WORK net|none");
    char path[4096], options[8192], group[256];
    const char *trees[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    int v2 = -1;
    for (int i = 0; i < 2 && v2 < 0; i++) {
        snprintf(path, sizeof path, "%s/cgroup.procs", trees[i]);
        if (access(path, F_OK)) continue;
        snprintf(group, sizeof group, "%s/floor-%d", trees[i], getpid());
        if (mkdir(group, 0755) == 0) v2 = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (v2 < 0) err(1, "no cgroup v2 tree");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", argv[1], argv[2], argv[2]);
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = v2,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) err(1, "clone3");
    if (pid == 0) {
        mounted(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        snprintf(path, sizeof path, "%s/root", argv[2]);
        mounted("overlay", path, "overlay", 0, options);
        if (chdir(path)) err(1, "chdir");
        mounted("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
        mounted("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k");
        const char *nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
        const int minors[] = {3, 5, 7, 8, 9, 0};
        for (int i = 0; i < 6; i++) {
            snprintf(path, sizeof path, "dev/%s", nodes[i]);
            mknod(path, S_IFCHR | 0666, (dev_t)((i == 5 ? 5 : 1) << 8 | minors[i]));
        }
        mkdir("dev/pts", 0755); mkdir("dev/shm", 01777); mkdir("dev/mqueue", 0755);
        mounted("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
        mounted("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k");
        mounted("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
        mounted("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
        if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) err(1, "pivot");
        sethostname("floor", 5);
        execl("/bin/true", "true", NULL);
        err(1, "exec");
    }
    int status;
    if (waitpid((pid_t)pid, &status, 0) < 0) err(1, "wait");
    (void)put;
    if (rmdir(group)) err(1, "rmdir %s", group);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
