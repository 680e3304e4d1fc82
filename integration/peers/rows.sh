#!/bin/bash
# The row-by-row suite (tests/rows) with Docker's own daemon and with podman, side by side: a case fails where a peer does
# anything else than the case says of it, so that every difference to rcon is a decision that stands in the case.
. "$(dirname "$0")/lib.sh"
rows=$(readlink -f "$here/../../tests/rows")
podman_files
# What does not hear its stop signal is not worth ten seconds each time.
sed -i '/^\[engine\]/a stop_timeout = 1' "$work/containers.conf"
socket=unix://$work/docker.sock

docker_command() {
    printf '#!/bin/sh\nexport DOCKER_HOST=%s DOCKER_CONFIG=${DOCKER_CONFIG:-%s/config}\nexec docker "$@"\n' "$socket" "$work" > "$work/docker-command"
    dockerd --data-root "$work/docker-data" --exec-root /run/docker --pidfile "$work/docker.pid" -H "$socket" --bip 172.31.250.1/24 \
        --cgroup-parent "/$parent" > "$work/dockerd.log" 2>&1 &
    daemon=$!
    chmod 755 "$work/docker-command"
    wait_for 120 "$work/docker-command" version || { fail "dockerd starts" "$(tail -n 5 "$work/dockerd.log" | tr '\n' ' ')"; finish; exit 1; }
}

# Podman has no daemon that sets a parent of all groups, so the verbs that make containers get a flag. Its runtime is runc:
# crun refuses hybrid hosts.
podman_command() {
    cat > "$work/podman-command" << END
#!/bin/bash
words=()
parent=(--cgroup-parent "/$parent")
for word in "\$@"; do
    words+=("\$word")
    case \$word in run | create)
        case "\${words[*]}" in
            # A member is below its pod, whose own container is of the suite's image, and ends when it is told to (sleep would not).
            run | create) case " \$* " in *" --pod "*) ;; *) words+=("\${parent[@]}") ;; esac ;;
            "pod create") words+=("\${parent[@]}" --infra-image "\$I" --infra-command "syslogd -n -O /dev/null") ;;
        esac ;;
    esac
done
exec podman --runtime runc --tmpdir /run/peer-libpod "\${words[@]}"
END
    chmod 755 "$work/podman-command"
}

# peer NAME COMMAND: its output is in $work/NAME.out.
peer() {
    mkdir -p "$work/$1-work"
    "$2" load -q -i "$FIXTURES/busybox.tar" > /dev/null
    local image=busybox
    [ "$1" != podman ] || image=$("$2" images --format '{{.Repository}}:{{.Tag}}')
    # Both publish the same host ports: podman has a host of its own.
    local host=()
    [ "$1" != podman ] || host=(unshare --net bash -c 'ip link set lo up; exec "$@"' rows)
    env E="$2" I="$image" POD_NOW="$([ "$1" = podman ] && echo -t0)" WORK="$work/$1-work" \
        "${host[@]}" "$rows/run.sh" "$1" "${files[@]}" > "$work/$1.out" 2>&1
}

files=("$rows"/*.rows)
[ -z "${ROWS_FILES:-}" ] || files=($ROWS_FILES)
peers=${ROWS_PEERS:-docker podman}
docker_command
podman_command
for engine in $peers; do
    peer "$engine" "$work/$engine-command" &
    running+=($!)
done
wait "${running[@]}"
for engine in $peers; do
    echo " -- $engine"
    cat "$work/$engine.out"
    passed=$((passed + $(grep -c '^  ok  ' "$work/$engine.out")))
    failed=$((failed + $(grep -c '^  FAIL' "$work/$engine.out")))
    tail -n 1 "$work/$engine.out" | grep -q '^rows: ' || fail "$engine came to the end"
done
for id in $("$work/docker-command" ps -aq); do "$work/docker-command" rm -f "$id" > /dev/null; done
"$work/podman-command" pod rm -a -f -t 0 > /dev/null 2>&1
for id in $("$work/podman-command" ps -aq); do "$work/podman-command" rm -f -t 0 "$id" > /dev/null; done
kill "$daemon" 2> /dev/null; wait "$daemon" 2> /dev/null
umount -R -l "$work/docker-data" "$work/podman/overlay" 2> /dev/null
finish
