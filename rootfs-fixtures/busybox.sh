#!/bin/bash
# busybox.sh OUT PROBE: the busybox image from Debian's busybox-static, with the probe program.
set -euo pipefail
out=$1 probe=$2
here=$(dirname "$(readlink -f "$0")")
busybox=$(readlink -f "$(command -v busybox)")
work=$(mktemp -d "$(dirname "$out")/.busybox.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 700 "$root/root"
install -m 755 "$busybox" "$root/bin/busybox"
install -m 755 "$probe" "$root/bin/probe"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
example:x:1000:1000:Example:/home/example:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
daemon:x:1:
wheel:x:10:root
www-data:x:33:
video:x:44:example
example:x:1000:
nogroup:x:65534:
GROUP
mkdir -p "$root/home/example"
chown 1000:1000 "$root/home/example"
tar --sort=name --mtime=@1704067200 --numeric-owner -C "$root" -cf "$work/layer.tar" .
"$here/image.sh" "$out" busybox:latest \
    '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]}' "$work/layer.tar"
