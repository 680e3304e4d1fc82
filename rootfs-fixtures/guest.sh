#!/bin/bash
# guest.sh OUT KERNEL: a Debian (stable, minbase) with systemd, python3, runc, crun and busybox as an ext4 image, which
# integration/cgroup2/guest.sh boots, with the modules of the kernel unpacked in KERNEL.
# An ext4 image and not an initramfs: under software emulation a guest that reads the blocks it uses is up (in 5 s)
# before one that unpacks the whole tree first.
set -euo pipefail
out=$1 kernel=$2
work=$(mktemp -d "$(dirname "$out")/.guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
"$(dirname "$(readlink -f "$0")")/bootstrap.sh" \
    --include=systemd,systemd-sysv,dbus,python3,runc,crun,busybox-static,procps,iproute2,uidmap,kmod,jq \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/root.tar"
mkdir "$work/root"
tar -C "$work/root" --numeric-owner -xf "$work/root.tar"
rm -f "$work/root.tar"
rm -rf "$work/root"/var/lib/apt/lists/* "$work/root"/var/cache/apt/*
echo rcon-guest > "$work/root/etc/hostname"
# A boot of the guest ends in its script: nothing of a server's start-up is wanted.
for unit in getty.target serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service systemd-networkd.service \
    systemd-resolved.service systemd-tmpfiles-clean.timer systemd-update-utmp.service systemd-binfmt.service; do
    ln -sf /dev/null "$work/root/etc/systemd/system/$unit"
done
: > "$work/root/etc/fstab"
modules=$(echo "$kernel"/deb/*lib/modules/* "$kernel"/deb/lib/modules/* | tr ' ' '\n' | grep -v '\*' | head -n 1)
mkdir -p "$work/root/usr/lib/modules"
cp -a "$modules" "$work/root/usr/lib/modules/"
depmod -b "$work/root" "$(basename "$modules")"
size=$(du -sm "$work/root" | cut -f1)
truncate -s "$((size * 5 / 4 + 512))M" "$work/guest.ext4"
mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$work/root" "$work/guest.ext4"
mv "$work/guest.ext4" "$out"
