#!/bin/bash
# The application of application.sh on a machine with systemd and pure cgroup v2 that is rebooted in order and then crashes: the
# units of the Debian package stop and start it. Nothing that it acknowledged before may be lost.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(readlink -f "$0")")
tree=$work/tree disk=$work/root.ext4 data=$work/data.ext4
mkdir "$tree"
cp "$here"/application-lib.sh "$tree/"
"$here/../packaging/deb.sh" "$RCON" "$tree" > /dev/null
expect "the package is built" 0 $?
# Unpacked here, where nothing is emulated.
load() { "$RCON" --root "$work/images" --run-root "$work/images-run" load -q -i "$FIXTURES/$1" > /dev/null; }
load mysql.tar && load blog.tar && load busybox.tar
expect "the images are unpacked" 0 $?
truncate -s 3G "$data"
mke2fs -q -F -t ext4 -d "$work/images" "$data"
rm -rf "$work/images" "$work/images-run"
cp --sparse=always "$FIXTURES/guest.ext4" "$disk"
# A crash is to be survived by the application, not by luck.
tune2fs -j "$disk" > /dev/null
for stage in first rebooted crashed; do
    echo "  boot: $stage (after $SECONDS s)"
    cat > "$work/stage.sh" << SCRIPT
stage=$stage
$(cat "$here/reboot-guest.sh")
SCRIPT
    GUEST_SECONDS=${GUEST_SECONDS:-480} GUEST_DISK=$disk GUEST_DATA=$data bash "$here/cgroup2/guest.sh" "$RCON" "$FIXTURES" "$work/stage.sh" systemd "$tree" > "$work/stage.out" 2>&1
    code=$?
    grep -v '^guest: ' "$work/stage.out"
    ok=$(grep -c '^  ok ' "$work/stage.out") bad=$(grep -c '^  FAIL ' "$work/stage.out")
    passed=$((passed + ok)) failed=$((failed + bad))
    expect "the stage $stage came to its end" 0 "$code"
done
finish
