#!/bin/bash
# run.sh RCON FIXTURES: boots Debian's cloud kernel under qemu (software emulation) with an initramfs that mounts
# a pure cgroup v2 tree, and runs ../limits.sh inside. The guest's serial output is the test's output.
set -euo pipefail
rcon=$1 fixtures=$2
here=$(dirname "$(readlink -f "$0")")
cache=$fixtures/kernel
work=$(mktemp -d /tmp/rcon-guest.XXXXXX)
trap 'rm -rf "$work"' EXIT

[ -e "$cache/vmlinuz" ] || { echo "the guest's kernel is missing: make fixtures fetches it"; exit 1; }
modules=$(echo "$cache"/deb/*lib/modules/* "$cache"/deb/lib/modules/* | tr ' ' '\n' | grep -v '\*' | head -n 1)
version=$(basename "$modules")

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,new} "$root/lib/modules/$version"
cp "$(readlink -f "$(command -v busybox)")" "$root/bin/busybox"
for applet in sh mount mkdir switch_root cp modprobe; do ln -s busybox "$root/bin/$applet"; done
cp "$rcon" "$root/bin/rcon"
cp "$fixtures/busybox.tar" "$here/../limits.sh" "$root/"
# Only the modules a container engine needs, with everything they depend on.
depmod -b "$(dirname "$(dirname "$(dirname "$modules")")")" "$version" 2> /dev/null || true
for module in overlay veth bridge nf_tables nft_chain_nat nft_nat nft_masq nft_fib_ipv4 nft_ct nft_reject_ipv4 nf_conntrack_netlink; do
    modprobe -d "$(dirname "$(dirname "$(dirname "$modules")")")" -S "$version" --show-depends "$module" 2> /dev/null | awk '$1 == "insmod" {print $2}'
done | sort -u | while read -r file; do
    to=$root/lib/modules/$version/${file#*"/$version/"}
    mkdir -p "$(dirname "$to")"
    case $file in
        *.xz) xz -dc "$file" > "${to%.xz}" ;;
        *.zst) zstd -qdc "$file" > "${to%.zst}" ;;
        *) cp "$file" "$to" ;;
    esac
done
depmod -b "$root" "$version"
cat > "$root/init" <<'INIT'
#!/bin/sh
# First the initramfs (from which pivot_root is impossible), then again from a tmpfs as the real root.
export PATH=/bin
if [ ! -e /second ]; then
    mount -t tmpfs -o mode=755 tmpfs /new
    cp -a /bin /etc /tmp /lib /init /busybox.tar /limits.sh /new/
    mkdir -p /new/dev /new/proc /new/sys /new/var/lib /new/run
    : > /new/second
    exec switch_root /new /init
fi
busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in overlay veth bridge nf_tables nft_chain_nat nft_nat nft_masq nft_fib_ipv4 nft_ct; do modprobe $module 2> /dev/null; done
ip link set lo up
echo "guest: kernel $(uname -r), $(cat /sys/fs/cgroup/cgroup.controllers)"
RCON=/bin/rcon FIXTURES=/ sh /limits.sh
echo "guest exit $?"
expected=$(/bin/rcon load -q -i /busybox.tar > /dev/null; /bin/rcon run --rm -p 8080:80 busybox echo bridged)
echo "guest bridge: $expected"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initramfs.gz"
timeout 1800 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel "$cache/vmlinuz" -initrd "$work/initramfs.gz" -append 'console=ttyS0 quiet panic=-1 loglevel=3' < /dev/null | tr -d '\r' > "$work/log" || true
sed -n '/^guest: /,$p' "$work/log" | grep -a -v '^\[' || true
summary=$(sed -n 's/^limits.sh: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/log")
if [ -z "$summary" ]; then
    echo "the guest did not finish; the end of its console:"
    tail -n 30 "$work/log"
    summary="0 1"
fi
read -r passed failed <<< "$summary"
if grep -q '^guest bridge: bridged$' "$work/log"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "  FAIL  the default network in the guest"; fi
[ -z "${RCON_TALLY:-}" ] || echo "$passed $failed" >> "$RCON_TALLY"
echo "cgroup2: $passed passed, $failed failed"
[ "$failed" = 0 ]
