#!/bin/bash
# again.sh COMMAND...: a command that needs the network, up to five times with a pause between: a mirror that does not answer for a
# moment is no reason to fail. Ends with the last one's code.
set -uo pipefail
for pause in 5 15 30 60; do
    "$@" && exit 0
    echo "again in $pause s: $*" >&2
    sleep "$pause"
done
exec "$@"
