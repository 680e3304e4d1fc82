#!/bin/bash
# perform.sh ARGUMENTS...: cargo test ARGUMENTS. A few tests that fail are performed once more, by themselves; if they pass then, they
# are named as unsteady at the end: a fault of theirs or of rcon that must be found, but that refuses nothing else.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --no-fail-fast "$@" 2>&1 | tee "$log" && exit
code=$?
mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | sort -u)
# None: it was not compiled, or a suite was killed. Many: it is no chance.
[ "${#failed[@]}" -ge 1 ] && [ "${#failed[@]}" -le 4 ] || exit "$code"
echo "== once more, by themselves: ${failed[*]}"
cargo test --no-fail-fast "$@" -- --exact "${failed[@]}" || exit
echo "== failed the first time and passed the second: ${failed[*]}"
