#!/bin/bash
# Many containers: SCALE_SEQUENTIAL (100) one after the other and SCALE_PARALLEL (50) at once, each with limits, a volume and a
# published port. Nothing may fail or be left; the numbers are shown, not judged, but for the memory of monitors.
. "$(dirname "$0")/lib.sh"
sequential=${SCALE_SEQUENTIAL:-100} parallel=${SCALE_PARALLEL:-50}
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
now() { date +%s%N; }
rate() { echo "  ..    $1: $2 in $((($(now) - $3) / 1000000)) ms, $(($2 * 1000000000 / ($(now) - $3))) a second"; }
start() { # NAME PORT
    rcon run -d --name "$1" --network bridge -m 32m --cpus 0.5 --pids-limit 20 -v "$1:/data" -p "$2:80" busybox sleep 100000 > /dev/null
}

from=$(now)
failures=0
for i in $(seq "$sequential"); do start "s$i" $((20000 + i)) || failures=$((failures + 1)); done
rate "one after the other" "$sequential" "$from"
expect "$sequential starts one after the other" "0 $sequential" "$failures $(rcon ps -q | wc -l)"

monitors=$(pgrep -f "^rcon-monitor" | while read -r p; do ls -l "/proc/$p/fd" 2> /dev/null | grep -qF " $work/" && echo "$p"; done)
pss=$(for p in $monitors; do awk '/^Pss:/ {print $2}' "/proc/$p/smaps_rollup"; done | sort -n)
count=$(wc -l <<< "$pss")
echo "  ..    monitors: $count, PSS in KiB: median $(sed -n "$(((count + 1) / 2))p" <<< "$pss"), largest $(tail -n 1 <<< "$pss")"
expect_in "the median monitor has at most 0.4 MiB" 1 410 "$(sed -n "$(((count + 1) / 2))p" <<< "$pss")"
times() { for _ in 1 2 3 4 5 6 7; do local from; from=$(now); rcon "$@" > /dev/null; echo $((($(now) - from) / 10000)); done | sort -n | sed -n 4p | sed 's/\(..\)$/.\1 ms/; s/^\./0./'; }
echo "  ..    ps with $sequential that run: $(times ps); ps -a: $(times ps -a); ps -q: $(times ps -q)"
expect "every port is published" "$sequential" "$(nft list map ip rcon ports | grep -oE 'tcp \. 2[0-9]{4}' | sort -u | wc -l)"
expect "a limit of one in the middle" 33554432 "$(rcon inspect -f '{{.HostConfig.Memory}}' "s$((sequential / 2))")"

from=$(now)
printf 's%d\n' $(seq "$sequential") | xargs -n 50 "$RCON" --root "$work/data" --run-root "$work/run" kill > /dev/null
for i in $(seq "$sequential"); do rcon wait "s$i" > /dev/null; done
echo "  ..    ps -a with $sequential that ended: $(times ps -a); ps: $(times ps)"
printf 's%d\n' $(seq "$sequential") | xargs -n 50 "$RCON" --root "$work/data" --run-root "$work/run" rm > /dev/null
rate "killed, waited for and removed" "$sequential" "$from"

from=$(now)
for i in $(seq "$parallel"); do start "p$i" $((30000 + i)) & done
wait
rate "at once" "$parallel" "$from"
expect "$parallel starts at once" "$parallel" "$(rcon ps -q | wc -l)"
expect "each has an address of its own" "$parallel" "$(rcon inspect -f '{{.NetworkSettings.IPAddress}}' $(rcon ps -q) | sort -u | wc -l)"
from=$(now)
rcon ps -aq | xargs -n 10 -P 8 "$RCON" --root "$work/data" --run-root "$work/run" rm -f > /dev/null
rate "removed by eight at once" "$parallel" "$from"
rcon volume prune -af > /dev/null
expect "no volume is left" "" "$(rcon volume ls -q)"
no_leaks "nothing is left"
finish
