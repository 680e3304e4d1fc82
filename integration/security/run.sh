#!/bin/bash
# run.sh RCON FIXTURES [GROUP...]: performs published tricks against the engine and the runtime, in namespaces of its own that
# stand for the host. Ends with the table: mechanism | trick | result (held: it failed; control: it works where nothing
# protects).
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
export RCON=$1 FIXTURES=$2
if [ "${RCON_IN_NETNS:-}" != 1 ]; then
    export RCON_IN_NETNS=1
    exec unshare --net --mount --propagation private bash "$0" "$@"
fi
shift 2
ip link set lo up
RCON_TABLE=$(mktemp)
export RCON_TABLE
[ $# != 0 ] || set -- "$here"/[a-z]*.py
status=0
for script in "$@"; do
    name=$(basename "$script" .py)
    [ "$name" != lab ] || continue
    echo "== security/$name"
    timeout 900 python3 -B "$here/$name.py" || status=1
done
echo "mechanism | trick | result"
cat "$RCON_TABLE"
rm -f "$RCON_TABLE"
exit "$status"
