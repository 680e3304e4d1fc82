# One boot of reboot.sh, in the guest, as a service; `stage` says which.
# With the time since the boot: the guest is slow, and this tells where.
expect() { if [ "$2" = "$3" ]; then echo "  ok    $1 ($(cut -d. -f1 /proc/uptime) s)"; else echo "  FAIL  $1: expected «$2», got «$3»"; fi; }
work=$(mktemp -d) PORT=18090
. /payload/tree/application-lib.sh
wait_active() { # UNIT
    for n in $(seq 1 600); do
        [ "$(systemctl is-active "$1")" = active ] && return 0
        sleep 0.5
    done
    systemctl status --no-pager "$1"
    return 1
}
state() { rcon inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$1"; }
live() { sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p" "/run/rcon/containers/$(rcon inspect -f '{{.Id}}' "$1")/live.json"; }
# Nothing of ours failed, nor warned in this boot.
clean() {
    systemctl list-units --no-legend --plain --state=failed 'rcon-*' | grep -v '^rcon-guest'
    for unit in rcon-boot.service rcon-supervise.service; do
        systemctl show -P Result "$unit" | grep -v '^success$'
        systemctl status --no-pager --lines=0 "$unit" > "$work/status"
        # 3: not running at this moment, which is what the timer's service does most of the time.
        case $unit:$? in rcon-boot.service:0 | rcon-supervise.service:[03]) ;; *) cat "$work/status" ;; esac
        journalctl -q -b -p warning -o cat -u "$unit"
    done
}
if [ "$stage" = first ]; then
    mkdir -p /var/log/journal && journalctl --flush
    dpkg -i /payload/tree/rcon_*.deb > /dev/null
    expect "the package is installed" 0 $?
    expect "the units are what systemd understands" "" "$(systemd-analyze verify /usr/lib/systemd/system/rcon-* 2>&1 | grep rcon-)"
    expect "they are started" "active active " "$(systemctl is-active rcon-boot.service rcon-supervise.timer | tr '\n' ' ')"
    expect "and will be" "enabled enabled " "$(systemctl is-enabled rcon-boot.service rcon-supervise.timer | tr '\n' ' ')"
    # A container and a pod, so that both are seen to come back.
    start_application mixed
    expect "the application starts" 0 $?
    rcon run -d --name plain busybox sleep 100000 > /dev/null
    rcon run -d --name unless --restart unless-stopped busybox sleep 100000 > /dev/null
    rcon run -d --name always --restart always busybox sleep 100000 > /dev/null
    rcon stop -t 0 unless always > /dev/null
    # What it does at its stop signal takes longer than a kill would leave it; the exit code is its own.
    rcon run -d --name orderly --stop-signal USR1 -v orderly:/data busybox \
        sh -c 'trap "sleep 2; echo told > /data/told; exit 7" USR1; while :; do sleep 0.2; done' > /dev/null
    answers 400
    expect "it answers" 0 $?
    expect "what was stopped is so" "exited 137 exited 137" "$(state unless) $(state always)"
    expect "posts are taken" 20 "$(post 1 20)"
    expect "nothing is lost" "" "$(intact 20)"
    expect "the units are clean" "" "$(clean)"
    touch /run/orderly
    echo "guest: exit 0"
    systemctl --no-block reboot
    exit 0
fi
wait_active rcon-boot.service
expect "the boot unit has done its work" 0 $?
rcon ps -a --format '  {{.Names}}	{{.Status}}'
answers 400
expect "the application answers without a command of anybody" 0 $?
expect "its pod is up with both members" "blog Running 2" "$(rcon pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}')"
expect "what has no policy does not run" exited "$(rcon inspect -f '{{.State.Status}}' plain)"
expect "nor what was stopped, unless-stopped" "exited 137" "$(state unless)"
expect "but what was stopped, always" "running 0" "$(state always)"
if [ "$stage" = rebooted ]; then
    expect "the database was shut down in order" 1 "$(rcon logs db 2>&1 | grep -c 'mariadbd: Shutdown complete')"
    expect "who handles its stop signal came to its end" "exited 7" "$(state orderly)"
    expect "and did what it does then" told "$(rcon run --rm -v orderly:/data busybox cat /data/told)"
    # The journal's last word about the boot before.
    expect "the boot unit was stopped without a complaint" 1 "$(journalctl -q -b -1 -o cat -u rcon-boot.service | grep -c '^rcon-boot.service: Deactivated successfully')"
    expect "in that boot nothing failed" "" "$(journalctl -q -b -1 -o cat -p warning -u 'rcon-boot*' -u 'rcon-supervise*')"
    expect "nothing is lost" "" "$(intact 20)"
    expect "posts are taken" 20 "$(post 21 40)"
    expect "the units are clean" "" "$(clean)"
    was=$(live app pid)
    kill -9 "$(live app monitor_pid)"
    while [ -e "/proc/$was/fd/0" ]; do sleep 0.1; done
    # Nobody but the timer looks.
    answers 300
    expect "the timer brings back what lost its monitor" 40 "$(count)"
    expect "another one than before" no "$([ "$(live app pid)" = "$was" ] && echo yes || echo no)"
    expect "the units are clean after it" "" "$(clean)"
    # Acknowledged means on disk for the database; the uploads say fsync. The console is waited for before the last posts.
    echo "guest: exit 0"
    python3 -c 'import termios; termios.tcdrain(1)'
    post 41 45 > /dev/null # The next boot finds what is missing.
    echo b > /proc/sysrq-trigger
    sleep 1000
fi
expect "nothing is lost in the crash" "" "$(intact 45)"
expect "posts are taken" 5 "$(post 46 50)"
expect "the units are clean" "" "$(clean)"
# Docker's rule for its daemon's restart is the boot's; what belongs to the machine's run stays as it is.
rcon stop -t 0 always > /dev/null
systemctl restart rcon-boot.service
expect "the boot unit is restarted" 0 $?
expect "what was stopped by it or by hand and is always runs" "running 0 running 0 running 0" "$(state db) $(state web) $(state always)"
expect "with what was not stopped by hand" "running 0" "$(state app)"
expect "and the pod" Running "$(rcon pod inspect -f '{{.State}}' blog)"
expect "and not what was" "exited 137" "$(state unless)"
answers 400
expect "the application answers" 0 $?
expect "nothing is lost" "" "$(intact 50)"
