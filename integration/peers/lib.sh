# Sourced by the peers' scripts, with RUNTIME (the OCI runtime under test) and FIXTURES: puts the script into network,
# mount, PID and IPC namespaces of its own, with an empty /run, so that a private daemon is the only one there is, and
# whatever is still running at the end ends with the script.
RUNTIME=${RUNTIME:-$(dirname "${RCON:?}")/rcon-runtime}
# The control group above all that the peer makes.
parent=rcon-peers-$(basename "$0" .sh)
remove_groups() { find /sys/fs/cgroup -mindepth 2 -depth -type d \( -path "*/$parent" -o -path "*/$parent/*" \) -exec rmdir {} + 2> /dev/null; }
if [ "${PEERS_INSIDE:-}" != "$$:$0" ]; then
    remove_groups
    # In the new PID namespace the script is 1, so that no other process carries this mark by chance.
    PEERS_INSIDE="1:$0" unshare --net --mount --ipc --pid --fork --kill-child --mount-proc --propagation private bash "$0" "$@" &
    inside=$!
    # The death of `unshare` is the death of all in its namespaces.
    trap 'kill -9 $inside' TERM INT
    wait $inside
    code=$?
    remove_groups
    exit $code
fi
here=$(dirname "$(readlink -f "$0")")
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ip link set lo up
. "$here/../lib.sh"
# conmon leaves files in the directory it was started from.
cd "$work" || exit 1

# PEERS_TRACE=FILE: every call of the runtime, with its arguments, log and exit code, is appended to FILE.
runtime=$RUNTIME
if [ -n "${PEERS_TRACE:-}" ]; then
    runtime=$work/runtime-trace
    sed "s|@RUNTIME@|$RUNTIME|; s|@TRACE@|$PEERS_TRACE|" "$here/trace.sh" > "$runtime"
    chmod 755 "$runtime"
fi

# ends NAME CODE COMMAND...: the command ends with this code; its output is kept in $work/out.
ends() {
    local name=$1 wanted=$2 code
    shift 2
    "$@" > "$work/out" 2>&1 < /dev/null
    code=$?
    if [ "$code" = "$wanted" ]; then pass "$name"; else fail "$name" "exit $code instead of $wanted: $(tail -n 3 "$work/out" | tr '\n' ' ')"; fi
}

# prints NAME TEXT COMMAND...: stdout and stderr, without carriage returns, are this text.
prints() {
    local name=$1 wanted=$2
    shift 2
    expect "$name" "$wanted" "$("$@" 2>&1 < /dev/null | tr -d '\r')"
}

# says NAME PATTERN COMMAND...: stdout and stderr match the extended regular expression.
says() {
    local name=$1 wanted=$2 out
    shift 2
    out=$("$@" 2>&1 < /dev/null | tr -d '\r')
    if grep -qE -e "$wanted" <<< "$out"; then pass "$name"; else fail "$name" "no «$wanted» in «$(tail -n 5 <<< "$out" | tr '\n' ' ')»"; fi
}

# pty COLUMNSxROWS INPUT COMMAND...: the command on a terminal of that size; INPUT is typed once it has printed something.
pty() { python3 "$here/terminal.py" "$@" | tr -d '\r'; }

# For a shell on a terminal, with ROWS COLUMNS as $0: its name and its size, which some peers set a moment after the start.
sized='i=0; until [ "$(stty size)" = "$0" ] || [ $i = 200 ]; do i=$((i + 1)); sleep 0.1; done; echo $(tty) $(stty size)'

# What the runtime may leave behind: control groups of containers, state directories. A peer's own groups are not its.
nothing_left() { # NAME GROUPS STATE_ROOT: GROUPS is the pattern of the containers' groups
    local left=
    for _ in $(seq 300); do
        left="$(find /sys/fs/cgroup -mindepth 2 -type d -path "*/$parent/*" -name "$2" 2> /dev/null | tr '\n' ' ')$(ls -A "$3" 2> /dev/null | tr '\n' ' ')"
        [ -n "$left" ] || break
        sleep 0.1
    done
    expect "$1" "" "$left"
}

# podman's own files beneath $work.
podman_files() {
    # Podman raises the open-files limit by default, which a root without CAP_SYS_RESOURCE may not.
    cat > "$work/containers.conf" << CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime_supports_nocgroup = ["$runtime", "$(basename "$runtime")"]
init_path = "/usr/bin/tini-static"
[network]
network_backend = "netavark"
network_config_dir = "$work/networks"
CONF
    export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "/run/peer-containers"\n' "$work/podman" > "$work/storage.conf"
}
