#!/bin/bash
# run.sh RCON FIXTURES: every integration script, in a network namespace of its own that stands for the host,
# so that nothing stays behind on the real one; beside them, in one of their own, those that run in emulated machines. Ends with the
# longest times, with what failed (also what passed when it was performed again), and one line: N passed, N failed.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
export RCON=$1 FIXTURES=$2
RCON_TALLY=$(mktemp)
export RCON_TALLY
if [ "${RCON_IN_NETNS:-}" != 1 ]; then
    export RCON_IN_NETNS=1
    exec unshare --net --mount --propagation private bash "$0" "$@"
fi
ip link set lo up
status=0
log=$(mktemp)
exec 3>&1 > >(tee "$log") 2>&1
teed=$!
times=$(mktemp) twice=$(mktemp)
# perform NAME SECONDS COMMAND...: one of them, with its time written down. What fails is performed once more; if it passes then, it is
# named as unsteady at the end: a fault of it or of rcon that must be found, but that refuses nothing else.
perform() {
    local name=$1 limit=$2 begin code mine try
    shift 2
    mine=$(mktemp)
    for try in first second; do
        begin=$SECONDS
        : > "$mine"
        echo "== $name"
        RCON_TALLY=$mine timeout "$limit" "$@"
        code=$?
        echo "$((SECONDS - begin)) $name" >> "$times"
        [ "$code" != 0 ] || break
        echo "  FAIL  $name ended with $code"
        # What hung would hang again.
        [ "$code" != 124 ] && [ "$try" = first ] || break
        echo "$name" >> "$twice"
    done
    cat "$mine" >> "$RCON_TALLY"
    rm "$mine"
    return "$code"
}
guest() { # NAME SCRIPT INIT SECONDS: a script in the Debian guest; its lines "NAME: N passed, M failed" are counted
    local out summary code
    out=$(GUEST_SECONDS=$4 perform "$1 in the guest" $(($4 * 2 + 60)) bash "$here/cgroup2/guest.sh" "$RCON" "$FIXTURES" "$here/$2" "$3" 2>&1)
    code=$?
    echo "$out"
    summary=$(sed -n "s/^$1: \([0-9]*\) passed, \([0-9]*\) failed\$/\1 \2/p" <<< "$out" | tail -n 1)
    echo "${summary:-0 1}" >> "$RCON_TALLY"
    return "$code"
}
# Emulated machines: each takes one processor and nothing else of this one, so that they go beside the other scripts.
guests() {
    local status=0
    perform cgroup2 1900 bash "$here/cgroup2/run.sh" "$RCON" "$FIXTURES" || status=1
    guest conformance conformance/in-guest.sh own 2000 || status=1
    guest groups.sh cgroup2/groups.sh own 900 || status=1
    guest systemd.sh cgroup2/systemd.sh systemd 900 || status=1
    perform reboot 3600 env GUEST_SECONDS=720 bash "$here/reboot.sh" || status=1
    return "$status"
}
export here
export -f perform guest guests
scripts() { # NAME...
    local name
    for name in "$@"; do
        perform "$name" 1800 bash "$here/$name.sh" || status=1
    done
}
# What measures shares of processors has them for itself.
scripts isolation limits pods
beside=$(mktemp)
# A session of its own, so that it ends with this script, whatever ends that.
times=$times twice=$twice setsid unshare --net bash -c 'ip link set lo up; guests' > "$beside" 2>&1 &
emulated=$!
trap 'pkill -s "$emulated"; rm -f "$times" "$twice" "$beside" "$log" "$RCON_TALLY"' EXIT
scripts tutorial application registry registry-faults registry-auth trust push ports networks cni kill-nine parallel logs store power-loss archives unpack nested \
    build build-outputs peers/podman peers/docker peers/docker-cli peers/containerd peers/registry peers/documents peers/rows peers/beside package scale conformance
perform build-corpus 900 "$here/build-corpus.py" --rcon "$RCON" --image "$FIXTURES/busybox.tar" || status=1
perform security 3600 bash "$here/security/run.sh" "$RCON" "$FIXTURES" || status=1
wait "$emulated" || status=1
cat "$beside"
echo "== seconds"
sort -rn "$times" | head -n 20
exec >&3 3>&-
for _ in $(seq 600); do kill -0 "$teed" 2> /dev/null || break; sleep 0.1; done
passed=0 failed=0
while read -r p f; do passed=$((passed + p)) failed=$((failed + f)); done < "$RCON_TALLY"
for cgroup in /sys/fs/cgroup/*/rcon /sys/fs/cgroup/rcon; do
    [ ! -d "$cgroup" ] || rmdir "$cgroup"
done
[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
[ ! -s "$twice" ] || echo "== failed the first time and were performed again: $(tr '\n' ' ' < "$twice")"
if [ "$failed" != 0 ] || [ -s "$twice" ]; then
    echo "== failed, with the script before each"
    awk '/^== / { script = $0; next } /^ *(FAIL|BLUNT) |^PROBLEM: |\| (FAIL|BLUNT)( |$)|: [0-9]+ passed, [1-9][0-9]* failed|Traceback|timed out/ { if (script != "") print script; script = ""; print }' "$log" | tail -n 100 | cut -c -1500
fi
echo "$passed passed, $failed failed"
exit "$status"
