#!/bin/bash
# kernel.sh DIRECTORY: Debian's cloud kernel and its modules for the guest, unpacked but not installed.
set -euo pipefail
cache=$1
again=$(dirname "$(readlink -f "$0")")/../../packaging/again.sh
meta=linux-image-cloud-$(dpkg --print-architecture)
rm -rf "$cache"
mkdir -p "$cache/deb"
package() { apt-cache depends "$meta" 2> /dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1; }
name=$(package)
[ -n "$name" ] || { "$again" apt-get update -qq; name=$(package); }
# apt drops privileges to fetch: the directory must be its own to write to.
fetch=$(mktemp -d /tmp/rcon-kernel.XXXXXX)
trap 'rm -rf "$fetch"' EXIT
chmod 777 "$fetch"
# The lists may name what the mirror has no more.
(cd "$fetch" && "$again" sh -c 'apt-get download -qq -o Acquire::Retries=5 "$0" || { apt-get update -qq && apt-get download -qq "$0"; }' "$name")
dpkg-deb -x "$fetch"/*.deb "$cache/deb"
cp "$cache"/deb/boot/vmlinuz-* "$cache/vmlinuz"
