#!/bin/bash
# The power fails during and after pulls: the store lies on an ext4 of its own, which is shut down without writing
# anything more (EXT4_IOC_SHUTDOWN, as xfstests' godown does), mounted again, and looked at under another boot id.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(readlink -f "$0")")
port=5861
log=$work/asked.log
image=127.0.0.1:$port/test/app:1
python3 "$here/slow-registry.py" $port "$log" 400000000 > "$work/registry.log" 2>&1 &
registry_pid=$!
wait_for 60 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port" || { echo "the registry does not start:"; cat "$work/registry.log"; exit 1; }
touch "$log"
asked() { grep -c GET "$log"; }

truncate -s 700M "$work/disk.img"
mkfs.ext4 -q -F "$work/disk.img" || exit 1
mkdir "$work/data"
boots=0
# Another id of the kernel's boot, seen by this script's processes only.
power_on() {
    mount -o loop "$work/disk.img" "$work/data" || exit 1
    boots=$((boots + 1))
    printf '00000000-0000-4000-8000-%012d\n' $boots > "$work/boot.$boots"
    mount --bind "$work/boot.$boots" /proc/sys/kernel/random/boot_id || exit 1
}
power_cut() {
    python3 - "$work/data" << 'END' || exit 1
import fcntl, os, struct, sys
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587d, 2
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
END
    [ $# = 0 ] || kill -9 "$@" 2> /dev/null
    pkill -9 -f "^rcon-sync $work/"
    wait_for 20 umount "$work/data" || { echo "the disk stays busy"; exit 1; }
    umount /proc/sys/kernel/random/boot_id
}
# A pull that nothing syncs: whoever is to do it waits for its turn, and dies waiting.
unsynced_pull() {
    exec 9>> "$work/data/locks/sync"
    flock 9
    rcon pull -q "$image" > /dev/null 9>&-
    pkill -9 -f "^rcon-sync $work/"
    wait_for 20 synced
    exec 9>&-
}
broken() { # files of a layer that have no bytes where they should
    find "$work/data/layers" -path '*/diff/*' -type f -size 0 | wc -l
}
forget() { rcon rmi -f "$image" > /dev/null 2>&1; wait_for 20 synced; }
sound="1 image and 3 layers are sound"

# After the sync nothing is lost, and nothing is compared or asked for.
power_on
rcon pull -q "$image" > /dev/null
wait_for 60 synced
power_cut
power_on
before_asked=$(asked)
expect "a pulled and synced image survives" 0 "$(rcon create --pull never "$image" > /dev/null 2> "$work/err"; echo $?)"
expect "as it was" "$sound" "$(rcon system check)"
expect "with no layer fetched" "$before_asked" "$(asked)"
rcon rm -f $(rcon ps -aq) > /dev/null
forget

# The record reaches the disk, the files do not: the case that must never show.
unsynced_pull
sync "$work/data/rcon.db" "$work/data/rcon.db-wal"
power_cut
power_on
expect "a record without its files is what the disk holds" 1 "$(rcon images -q | wc -l)"
expect_in "files without their bytes (or without a name at all)" 1 700 "$(($(broken) + 3 - $(find "$work/data/layers" -mindepth 1 -maxdepth 1 2> /dev/null | wc -l)))"
before_asked=$(asked)
expect "no container is made of it" 1 "$(rcon create --pull never "$image" > /dev/null 2> "$work/err"; echo $?)"
expect "it is as if it had never been pulled" "1 0" "$(grep -c "No such image" "$work/err") $(rcon images -q | wc -l)"
expect "a name is fetched anew" 0 "$(rcon create "$image" > /dev/null 2>> "$work/err"; echo $?)"
expect_in "from the registry" 1 3 "$(($(asked) - before_asked))"
expect "and sound" "$sound" "$(rcon system check)"
wait_for 60 synced
rcon rm -f $(rcon ps -aq) > /dev/null
forget

# The files reach the disk, the note that says so does not: they are compared and used.
unsynced_pull
sync -f "$work/data"
power_cut
power_on
before_asked=$(asked)
expect "files that reached the disk without a note are used" 0 "$(rcon create --pull never "$image" > /dev/null 2> "$work/err"; echo "$?$(cat "$work/err")")"
expect "with no layer fetched" "$before_asked" "$(asked)"
power_cut
power_on
expect "for good" "0 $before_asked" "$(rcon create --pull never "$image" > /dev/null 2>&1; echo "$? $(asked)")"
rcon rm -f $(rcon ps -aq) > /dev/null
forget

# At any moment of a pull and behind it, however long one takes here.
begin=$(date +%s%N)
rcon pull -q "$image" > /dev/null
span=$((($(date +%s%N) - begin) / 1000000 * 3 / 2))
[ $span -ge 600 ] || span=600
wait_for 60 synced
forget
moment() { local at=$(((RANDOM * 32768 + RANDOM) % span)); printf '%d.%03d' $((at / 1000)) $((at % 1000)); }
wrong="" shown=0 lost=0
for round in $(seq 40); do
    case $((round % 2)) in
        0) exec 9>> "$work/data/locks/sync"; flock 9 ;;
    esac
    "$RCON" --root "$work/data" --run-root "$work/run" pull -q "$image" > /dev/null 2>&1 9>&- &
    pid=$!
    # Now and then surely behind the record, where nobody writes the files: chance alone could pass that by.
    if [ $((round % 12)) = 4 ]; then wait "$pid"; pid=; else sleep "$(moment)"; fi
    case $((round % 3)) in
        0) sync -f "$work/data" ;;
        1) sync "$work/data/rcon.db" "$work/data/rcon.db-wal" 2> /dev/null ;;
    esac
    [ $((round % 2)) = 1 ] || pkill -9 -f "^rcon-sync $work/"
    exec 9>&-
    power_cut $pid
    [ -z "$pid" ] || wait "$pid" 2> /dev/null
    power_on
    if [ -n "$(rcon images -q 2> /dev/null)" ]; then
        shown=$((shown + 1))
        if rcon create --pull never "$image" > /dev/null 2>&1; then
            [ "$(rcon system check)" = "$sound" ] || wrong="$wrong; round $round: a broken image is used: $(rcon system check 2>&1)"
            rcon rm -f $(rcon ps -aq) > /dev/null
        else
            lost=$((lost + 1))
        fi
    fi
    rcon pull -q "$image" > /dev/null 2> "$work/err" || wrong="$wrong; round $round: the next pull fails: $(cat "$work/err")"
    [ "$(rcon system check)" = "$sound" ] || wrong="$wrong; round $round: a pull leaves it broken: $(rcon system check 2>&1)"
    forget
done
expect "40 cuts at any moment, no broken image" "" "$wrong"
expect_in "some of them behind the record" 1 40 $shown
expect_in "some of these before the files" 1 $shown $lost

wait_for 60 synced
umount /proc/sys/kernel/random/boot_id
umount "$work/data"
kill "$registry_pid" && wait "$registry_pid" 2> /dev/null
expect "no mount and no process is left" "0 0" "$(grep -cF "$work" /proc/self/mountinfo) $(pgrep -fc "^rcon-sync $work/")"
finish
