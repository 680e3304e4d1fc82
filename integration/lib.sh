# Sourced by the integration scripts: assertions, private roots, leak check.
# Expects RCON (binary) and FIXTURES (directory of image tars).
set -uo pipefail
# Names are sorted, and messages written, as the scripts expect.
export LC_ALL=C.UTF-8
passed=0 failed=0
work=$(mktemp -d /tmp/rcon-integration.XXXXXX)

rcon() { "$RCON" --root "$work/data" --run-root "$work/run" "$@"; }

pass() { passed=$((passed + 1)); echo "  ok    $1"; }
fail() { failed=$((failed + 1)); echo "  FAIL  $1${2:+: $2}"; }

# expect NAME WANTED GOT
expect() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected «$2», got «$3»"; fi; }

# expect_in NAME LOW HIGH GOT
expect_in() { if [ "$4" -ge "$2" ] 2> /dev/null && [ "$4" -le "$3" ]; then pass "$1 ($4)"; else fail "$1" "expected $2..$3, got «$4»"; fi; }

# wait_for SECONDS COMMAND...: until it succeeds or the deadline passes. A deadline only ends a wait for what never comes: on a
# machine that does much else, less than 20 seconds may be too few for anything.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# other_host: another machine, as a network namespace; the process that holds it is $other.
other_host() {
    unshare --net sleep 10000 &
    other=$!
    # Until then it is in ours, and so would be what is moved there.
    wait_for 60 is_elsewhere "$other" || { echo "no network namespace is made"; exit 1; }
}
is_elsewhere() {
    local theirs
    theirs=$(readlink "/proc/$1/ns/net") && [ "$theirs" != "$(readlink /proc/self/ns/net)" ]
}

# What an engine may leave behind on this host, a line each, sorted; compared before and after.
footprint() {
    {
        grep -F "$work" /proc/self/mountinfo | awk '{ print "mount:" $5 }'
        pgrep -f "^rcon-(monitor|sync)" | while read -r p; do ls -l "/proc/$p/fd" 2> /dev/null | grep -F " $work/" > /dev/null && echo "process:$p"; done
        ip -o link show | sed -n 's/^[0-9]*: \(rc[0-9a-f]\{12\}\)@.*/link:\1/p'
        nft list ruleset 2> /dev/null | awk '/^\t(map|set|chain) / { map = $1 == "map" } map && /elements/ { print "elements" }'
        groups
    } | sort
}
# Control groups of containers, but for those in which processes of other engines run: theirs are the machine's, as ours are.
groups() {
    local group pids pid
    find /sys/fs/cgroup -type d -path '*/rcon/*' 2> /dev/null | while read -r group; do
        pids=$(find "$group" -name cgroup.procs -exec cat {} + 2> /dev/null | sort -u)
        [ -z "$pids" ] || for pid in $pids; do cat "/proc/$pid/mountinfo"; done 2> /dev/null | grep -F "/$(basename "$work")/" > /dev/null || continue
        echo "cgroup:$group"
    done
}
# What is there now and was not before. (What another script left in the making and is gone since is no leak of this one.)
left_over() { comm -13 <(echo "$before") <(footprint); }
live_files() { ls "$work/run/containers" 2> /dev/null | grep -v '\.op$'; }
nothing_left_over() { left=$(left_over) live=$(live_files); [ -z "$left$live" ]; }

no_leaks() { # NAME
    local id left live
    for id in $(rcon ps -aq --no-trunc); do rcon rm -f "$id" > /dev/null; done
    wait_for 30 nothing_left_over
    expect "$1" "" "$(tr '\n' ' ' <<< "$left" | sed 's/ $//')"
    expect "$1 (live files)" "" "$live"
}
# await_death PID...: SIGKILL takes a moment, and who still dies still holds its locks and files.
await_death() { local pid; for pid in "$@"; do wait_for 20 test ! -e "/proc/$pid/fd/0" || fail "process $pid dies"; done; }

# Nothing writes to these roots behind a pull any more.
synced() { ! pgrep -f "^rcon-sync $work/" > /dev/null; }

finish() {
    for id in $(rcon ps -aq --no-trunc 2> /dev/null); do rcon rm -f "$id" > /dev/null 2>&1; done
    wait_for 60 synced
    rm -rf "$work"
    echo "$(basename "$0"): $passed passed, $failed failed"
    [ -z "${RCON_TALLY:-}" ] || echo "$passed $failed" >> "$RCON_TALLY"
    [ "$failed" = 0 ]
}

before=$(footprint)
