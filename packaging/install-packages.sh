#!/bin/bash
# install-packages.sh GROUP...: installs the Debian packages of the named groups that are missing.
set -euo pipefail
declare -A groups=(
    [build]="gcc libc6-dev musl-tools busybox-static"
    [test]="mmdebstrap docker-registry skopeo mariadb-client nftables iproute2 util-linux procps jq python3 python3-venv openssl perl-base qemu-system-x86 cpio kmod zstd xz-utils bzip2 curl e2fsprogs git runc crun umoci man-db zsh containernetworking-plugins iptables"
    [peers]="podman netavark aardvark-dns buildah docker.io containerd runc iptables tini uidmap curl iproute2 util-linux procps python3"
    [bench-pull]="containerd docker-registry skopeo umoci isal curl openssl mmdebstrap"
    [bench-network]="iperf3 netavark aardvark-dns"
    [fuzz]="g++ python3 util-linux"
    [bench]="docker.io podman runc crun iptables python3 iproute2"
)
missing=()
for group in "$@"; do
    for package in ${groups[$group]:?unknown group $group}; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing: ${missing[*]}"
# Both again: what an update that failed leaves has other versions than the mirror. Another apt may be at work meanwhile.
"$(dirname "$(readlink -f "$0")")/again.sh" $sudo env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq &&
    apt-get install -y -qq --no-install-recommends -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 "$@" > /dev/null' install "${missing[@]}"
