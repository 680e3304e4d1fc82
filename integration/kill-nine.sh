#!/bin/bash
# kill -9 of the foreground `run`, of the monitor and of both at random moments, 100 times: `ps` tells the truth,
# `rm -f` works, nothing leaks: no address, link, rule or name either, every second time on a user network. The seed is printed; KILL_SEED repeats a run.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon run --rm busybox true
rcon network create calm > /dev/null
RANDOM=${KILL_SEED:-$$}
echo "  seed ${KILL_SEED:-$$}"
rounds=${KILL_ROUNDS:-100} wrong=0
# A duration nobody else sleeps, so that only our own processes are counted.
long=1000$$
# Only the monitors of this run's engine may be killed: those holding a file under our roots, and the one our client
# has just started. Other engines may run on this host. (A monitor's environment is empty: it tells nothing.)
monitors() {
    pgrep -f '^rcon-monitor' | while read -r pid; do
        if [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" = "$client" ] || ls -l "/proc/$pid/fd" 2> /dev/null | grep -qF " $work/"; then echo "$pid"; fi
    done
}
for round in $(seq "$rounds"); do
    name=victim-$round network=bridge
    [ $((round % 2)) = 0 ] || network=calm
    "$RCON" --root "$work/data" --run-root "$work/run" run --name "$name" --network "$network" -p 18080:80 busybox sleep "$long" > "$work/out" 2>&1 &
    client=$! mine=
    # Moments from 0 to 60 ms: inside create, inside start, and running.
    sleep "0.0$((RANDOM % 61 / 10))$((RANDOM % 10))"
    case $((RANDOM % 3)) in
        0) kill -9 "$client" 2> /dev/null; what=client ;;
        1) mine=$(monitors); [ -z "$mine" ] || kill -9 $mine 2> /dev/null; what=monitor ;;
        # Listed first: a monitor whose client is dead is known by its files only.
        2) mine=$(monitors); kill -9 "$client" $mine 2> /dev/null; what=both ;;
    esac
    [ "$what" = monitor ] && { sleep 0.2; kill -9 "$client" 2> /dev/null; }
    wait "$client" 2> /dev/null
    # SIGKILL takes a moment: a monitor that still dies still holds its lock, and ps would be right to say running.
    for pid in $mine; do wait_for 20 test ! -e "/proc/$pid/fd/0" || echo "  round $round: monitor $pid does not die"; done
    # What ps says must be what the kernel says.
    shown=$(rcon ps --filter "name=^$name\$" --format '{{.State}}' 2> "$work/ps.err")
    pid=$(rcon inspect -f '{{.State.Pid}}' "$name" 2> /dev/null || echo 0)
    alive=no; [ "${pid:-0}" -gt 0 ] && [ -d "/proc/$pid" ] && alive=yes
    # It may have been between its monitor and its first moment when ps was asked, and run by now.
    [ "$alive$shown" != yes ] || shown=$(rcon ps --filter "name=^$name\$" --format '{{.State}}' 2> "$work/ps.err")
    if { [ "$shown" = running ] && [ "$alive" = no ]; } || { [ -z "$shown" ] && [ "$alive" = yes ]; }; then
        echo "  round $round ($what): ps says «$shown», process alive: $alive $(cat "$work/ps.err")"; wrong=$((wrong + 1))
    fi
    if rcon inspect "$name" > /dev/null 2>&1; then
        rcon rm -f "$name" > "$work/rm.out" 2>&1 || { echo "  round $round ($what): rm -f: $(cat "$work/rm.out")"; wrong=$((wrong + 1)); }
    fi
    rcon inspect "$name" > /dev/null 2>&1 && { echo "  round $round ($what): still there"; wrong=$((wrong + 1)); }
done
expect "$rounds rounds without a lie or a stuck container" 0 "$wrong"
expect "the name and the port are free" 0 "$(rcon run --rm --name victim-1 -p 18080:80 busybox true; echo $?)"
expect "no container process survives" 0 "$(pgrep -fc "sleep $long\$")"
expect "no volume, upper or log directory is left" "" "$(ls "$work/data/containers")"
expect "no name is left" "" "$(cat "$work"/run/networks/*/names 2> /dev/null | grep -a victim)"
expect "no link, rule or address is left over" "" "$(rcon system check -q | grep network)"
expect "nobody is on the network" calm "$(rcon network rm calm)"
no_leaks "nothing is left"
finish
