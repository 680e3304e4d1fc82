#!/bin/bash
# conformance.sh: the conformance table (conformance/run.py) of runc, crun and rcon on this host.
# Expects RCON and FIXTURES as the other scripts; CONFORMANCE_JSON says where the results go as JSON.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d /tmp/rcon-conformance.XXXXXX)
trap 'rm -rf "$work"' EXIT
bash "$here/conformance/rootfs.sh" "$FIXTURES/busybox.tar" "$work/rootfs"
python3 -B "$here/conformance/run.py" --rcon "$RCON" --rootfs "$work/rootfs" --json "${CONFORMANCE_JSON:-$work/table.json}" | tee "$work/out"
status=${PIPESTATUS[0]}
tally=$(sed -n 's/^conformance: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/out")
[ -z "${RCON_TALLY:-}" ] || echo "${tally:-0 1}" >> "$RCON_TALLY"
exit "$status"
