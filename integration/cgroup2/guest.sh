#!/bin/bash
# guest.sh RCON FIXTURES SCRIPT [systemd [TREE]]: boots the Debian of rootfs-fixtures/guest.sh with a pure cgroup v2
# tree and runs SCRIPT (a shell script) in it as root, with its output on ours; exits with the script's status, or 124
# when the guest did not get that far within GUEST_SECONDS (default 600).
#
# The script finds /payload/{rcon,rcon-runtime,busybox.tar,probe}, its own directory's files in /payload/tree (or
# TREE's), and RCON, FIXTURES and GUEST_INIT in its environment. GUEST_INIT is `own` (PID 1 is a shell; nothing else
# runs; the root cgroup is empty but for it) or `systemd` (PID 1 is systemd with dbus, the script a service of it, for
# the systemd cgroup driver). Nothing that the guest writes is kept, unless GUEST_DISK names a copy of the Debian's disk to
# boot from; GUEST_DATA is one disk more, mounted on /var/lib/rcon. A script that wants an orderly end makes /run/orderly and says
# `guest: exit 0` itself before it calls reboot; so does one that crashes the guest.
set -euo pipefail
rcon=$(readlink -f "$1") fixtures=$(readlink -f "$2") script=$(readlink -f "$3") init=${4:-own}
tree=$(readlink -f "${5:-$(dirname "$script")}")
seconds=${GUEST_SECONDS:-600} memory=${GUEST_MEMORY:-2048}
case $init in own | systemd) ;; *) echo "guest.sh: the init is \"own\" or \"systemd\", not \"$init\"" >&2; exit 2 ;; esac
kernel=$fixtures/kernel
for file in "$kernel/vmlinuz" "$fixtures/guest.ext4"; do
    [ -e "$file" ] || { echo "guest.sh: $file is missing: make fixtures builds it" >&2; exit 2; }
done
work=$(mktemp -d /tmp/rcon-guest.XXXXXX)
trap 'rm -rf "$work"' EXIT

# The initramfs: only what finds the two disks. 0: the Debian, 1: the payload.
root=$work/initramfs
modules=$(echo "$kernel"/deb/*lib/modules/* "$kernel"/deb/lib/modules/* | tr ' ' '\n' | grep -v '\*' | head -n 1)
mkdir -p "$root"/{bin,dev,proc,sys,new,modules}
cp "$(readlink -f "$(command -v busybox)")" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
n=100
for module in virtio_pci virtio_blk; do
    modprobe -d "$(dirname "$(dirname "$(dirname "$modules")")")" -S "$(basename "$modules")" --show-depends "$module" |
        awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
    n=$((n + 1))
    case $file in
        *.xz) xz -dc "$file" > "$root/modules/$n.ko" ;;
        *.zst) zstd -qdc "$file" > "$root/modules/$n.ko" ;;
        *) cp "$file" "$root/modules/$n.ko" ;;
    esac
done
cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
read -r disks < /disks
for disk in $disks; do
    wait=0
    while [ ! -b "/dev/$disk" ] && [ "$wait" -lt 600 ]; do
        wait=$((wait + 1))
        /bin/busybox usleep 100000
    done
done
/bin/busybox mount -t ext4 /dev/vda /new || exec /bin/busybox poweroff -f
/bin/busybox mkdir -p /new/payload
/bin/busybox mount -t ext4 /dev/vdb /new/payload || exec /bin/busybox poweroff -f
# Here, because the guest has no udev that would tell its systemd of the disk.
[ ! -b /dev/vdc ] || { /bin/busybox mkdir -p /new/var/lib/rcon; /bin/busybox mount -t ext4 /dev/vdc /new/var/lib/rcon; }
/bin/busybox umount /proc
read -r init < /new/payload/init
if [ "$init" = systemd ]; then
    /bin/busybox ln -sf /payload/rcon-guest.service /new/etc/systemd/system/rcon-guest.service
    /bin/busybox mkdir -p /new/etc/systemd/system/multi-user.target.wants
    /bin/busybox ln -sf /payload/rcon-guest.service /new/etc/systemd/system/multi-user.target.wants/
    /bin/busybox umount /dev
    exec /bin/busybox switch_root /new /sbin/init
fi
/bin/busybox umount /dev
exec /bin/busybox switch_root /new /payload/own-init
INIT
chmod +x "$root/init"
echo "vda vdb${GUEST_DATA:+ vdc}" > "$root/disks"
(cd "$root" && find . | cpio -o -H newc --quiet) > "$work/initramfs.cpio"

payload=$work/payload
mkdir -p "$payload"
cp "$rcon" "$payload/rcon"
ln -s rcon "$payload/rcon-runtime"
cp "$fixtures/busybox.tar" "$fixtures/probe" "$payload/"
cp -a "$tree" "$payload/tree"
cp "$script" "$payload/script"
echo "$init" > "$payload/init"
cat > "$payload/own-init" <<'INIT'
#!/bin/sh
# PID 1 of the guest when systemd is not wanted.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "/dev/${n#*:}"; done
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue 2> /dev/null || { mkdir /dev/mqueue && mount -t mqueue mqueue /dev/mqueue; }
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null
hostname rcon-guest
ip link set lo up
/bin/sh /payload/boot > /dev/console 2>&1 < /dev/null
exec /bin/busybox poweroff -f
INIT
cat > "$payload/rcon-guest.service" <<'UNIT'
[Unit]
Description=the script of this boot
After=basic.target dbus.service
[Service]
Type=oneshot
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart=/bin/sh /payload/boot
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
ExecStopPost=/bin/sh -c '[ -e /run/orderly ] || exec /bin/busybox poweroff -f'
UNIT
cat > "$payload/boot" <<'BOOT'
for module in fuse overlay veth bridge dummy nf_tables nft_chain_nat nft_nat nft_masq nft_fib_ipv4 nft_ct nft_reject_ipv4 nf_conntrack_netlink tun; do
    modprobe -q "$module"
done
read -r GUEST_INIT < /payload/init
export GUEST_INIT RCON=/payload/rcon FIXTURES=/payload HOME=/root
cd /root
echo
echo "guest: kernel $(uname -r), $(cat /proc/1/comm), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
/bin/sh /payload/script
echo "guest: exit $?"
BOOT
chmod +x "$payload/own-init"
size=$(du -sm "$payload" | cut -f1)
truncate -s "$((size * 5 / 4 + 64))M" "$work/payload.ext4"
mke2fs -q -F -t ext4 -O ^has_journal -d "$payload" "$work/payload.ext4"
rm -rf "$payload"

# no_timer_check: an emulated timer on a busy host is late, which the kernel takes for a broken one.
# Software emulation even where /dev/kvm exists: one that is nested badly never gets past the firmware.
# Now and then the emulator's processors wait for each other for ever: the guest's watchdog ends such a boot, and it is begun anew.
disks=(-drive "file=${GUEST_DISK:-$fixtures/guest.ext4},format=raw,if=virtio,snapshot=$([ -n "${GUEST_DISK:-}" ] && echo off || echo on)"
    -drive "file=$work/payload.ext4,format=raw,if=virtio,snapshot=on")
[ -z "${GUEST_DATA:-}" ] || disks+=(-drive "file=$GUEST_DATA,format=raw,if=virtio")
for boot in 1 2 3; do
    timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "$memory" -nographic -no-reboot -nic none \
        -kernel "$kernel/vmlinuz" -initrd "$work/initramfs.cpio" \
        "${disks[@]}" \
        -append 'console=ttyS0 quiet no_timer_check panic=-1 loglevel=3 systemd.show_status=0 mitigations=off softlockup_panic=1 watchdog_thresh=60' < /dev/null 2>&1 |
        stdbuf -o0 tr -d '\r' | tee "$work/log" | sed -u -n '/^guest: kernel /,/^guest: exit /p' || true
    status=$(sed -n 's/^guest: exit \([0-9]*\)$/\1/p' "$work/log" | tail -n 1)
    [ -z "$status" ] && [ "$boot" != 3 ] && grep -q 'softlockup: hung tasks' "$work/log" || break
    echo "guest.sh: the emulated processors got stuck; the guest is booted anew"
done
if [ -z "$status" ]; then
    echo "guest.sh: the guest did not finish within $seconds s; the end of its console:"
    tail -n 30 "$work/log"
    exit 124
fi
exit "$status"
