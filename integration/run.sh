#!/bin/bash
# run.sh RCON FIXTURES: every integration script, in a network namespace of its own that stands for the host,
# so that nothing stays behind on the real one. Ends with one line: N passed, N failed.
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
for script in isolation limits tutorial registry registry-faults registry-auth trust push ports kill-nine parallel store archives unpack nested peers/podman peers/docker peers/containerd peers/registry conformance; do
    echo "== $script"
    if ! timeout 900 bash "$here/$script.sh"; then
        status=1
    fi
done
echo "== cgroup2"
timeout 600 bash "$here/cgroup2/run.sh" "$RCON" "$FIXTURES" || status=1
guest() { # NAME SCRIPT INIT SECONDS: a script in the Debian guest; its lines "NAME: N passed, M failed" are counted
    echo "== $1 in the guest"
    local out summary
    out=$(GUEST_SECONDS=$4 timeout $(($4 + 60)) bash "$here/cgroup2/guest.sh" "$RCON" "$FIXTURES" "$here/$2" "$3" 2>&1) || status=1
    echo "$out"
    summary=$(sed -n "s/^$1: \([0-9]*\) passed, \([0-9]*\) failed\$/\1 \2/p" <<< "$out")
    echo "${summary:-0 1}" >> "$RCON_TALLY"
}
guest conformance conformance/in-guest.sh own 1500
guest groups.sh cgroup2/groups.sh own 600
guest systemd.sh cgroup2/systemd.sh systemd 600
echo "== security"
timeout 1800 bash "$here/security/run.sh" "$RCON" "$FIXTURES" || status=1
passed=0 failed=0
while read -r p f; do passed=$((passed + p)) failed=$((failed + f)); done < "$RCON_TALLY"
rm -f "$RCON_TALLY"
for cgroup in /sys/fs/cgroup/*/rcon /sys/fs/cgroup/rcon; do
    [ ! -d "$cgroup" ] || rmdir "$cgroup"
done
[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
echo "$passed passed, $failed failed"
exit "$status"
