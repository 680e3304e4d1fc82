#!/bin/bash
# Debian's podman, conmon and buildah on the runtime under test. Everything podman knows is beneath $work.
. "$(dirname "$0")/lib.sh"
. "$here/cases.sh"
podman_files
export BUILDAH_ISOLATION=oci
peer_command=$work/podman-command
printf '#!/bin/sh\nexec timeout --foreground 60 podman --runtime %s --tmpdir %s "$@"\n' "$runtime" /run/peer-libpod > "$peer_command" && chmod 755 "$peer_command"
# Podman has no daemon that sets a parent of all groups, so the two verbs that make containers get a flag.
engine() {
    local verb=$1
    shift
    case $verb in
        run | create) "$peer_command" "$verb" --cgroup-parent "/$parent" "$@" ;;
        *) "$peer_command" "$verb" "$@" ;;
    esac
}
EXEC_MISSING=127 EXEC_PAUSED=255 RM_RUNNING=2 BUILD_FLAGS=(-q --runtime "$runtime") FORCE=(-f -t 0) UPDATE_PIDS=()

engine load -q -i "$FIXTURES/busybox.tar" > /dev/null
IMAGE=$(engine images --format '{{.Repository}}:{{.Tag}}' | head -n 1)
ns() { engine exec "$1" readlink "/proc/self/ns/$2"; }

default_network() {
    engine run -d --name web -p 127.0.0.1:8124:80 "$IMAGE" sh -c 'mkdir /www && echo served > /www/index.html && httpd -f -h /www -p 80' > /dev/null
    wait_for 20 curl -sf http://127.0.0.1:8124/
    expect "a published port" served "$(curl -s http://127.0.0.1:8124/)"
    says "a container's network is joined by path" "eth0" engine run --rm --network container:web "$IMAGE" ls /sys/class/net
    ends "the bridge answers" 0 engine exec web ping -c 1 -w 20 "$(engine inspect -f '{{.NetworkSettings.Gateway}}' web)"
    engine rm -f -t 0 web > /dev/null
}

pods() {
    ends "pod create" 0 engine pod create --name pod --infra-image "$IMAGE" --infra-command 'sleep 1000' --share net,ipc,uts,pid --cgroup-parent "/$parent" --network none
    ends "two members" 0 "$peer_command" run -d --pod pod --name one "$IMAGE" sleep 1000
    "$peer_command" run -d --pod pod --name two "$IMAGE" sleep 1000 > /dev/null
    local namespace
    for namespace in net ipc uts pid; do
        expect "share their $namespace namespace" "$(ns one "$namespace")" "$(ns two "$namespace")"
    done
    expect "but not the mounts" 1 "$([ "$(ns one mnt)" = "$(ns two mnt)" ]; echo $?)"
    expect "they see each other's processes" 3 "$(engine exec two ps -o args | grep -c '^sleep 1000')"
    ends "pod pause" 0 engine pod pause pod
    expect "stops all" paused "$(state two)"
    ends "pod unpause" 0 engine pod unpause pod
    ends "pod stop" 0 engine pod stop -t 1 pod
    ends "pod start" 0 engine pod start pod
    expect "starts all" running "$(state one)"
    ends "pod rm -f" 0 engine pod rm -f -t 0 pod
}

user_namespaces() {
    local map=(--uidmap 0:200000:65536 --gidmap 0:300000:65536)
    says "--uidmap" "^ +0 +200000 +65536$" run "${map[@]}" "$IMAGE" cat /proc/self/uid_map
    says "--gidmap" "^ +0 +300000 +65536$" run "${map[@]}" "$IMAGE" cat /proc/self/gid_map
    prints "files have the container's ids" "0 0" run "${map[@]}" "$IMAGE" sh -c 'echo $(id -u) $(stat -c %u /bin/busybox)'
    prints "another user" "1000" run "${map[@]}" -u example "$IMAGE" id -u
    ends "root of the container owns what it makes" 0 run "${map[@]}" "$IMAGE" sh -c 'touch /file && chown 5:5 /file && mkdir /proc/1/task 2> /dev/null; [ "$(stat -c %u /file)" = 5 ]'
    says "writing kernel settings is refused" "Read-only|denied" run "${map[@]}" "$IMAGE" sh -c 'echo 1 > /proc/sys/kernel/panic'
    engine run -d --name mapped --network none "${map[@]}" --memory 64m "$IMAGE" sleep 1000 > /dev/null
    prints "exec" 0 engine exec mapped id -u
    expect "on the host it is another user" 200000 "$(awk '/^Uid:/ {print $2}' "/proc/$(engine inspect -f '{{.State.Pid}}' mapped)/status")"
    expect "exec -t" "/dev/pts/0" "$(pty 80x24 '' "$peer_command" exec -it mapped tty)"
    expect "its limit" 67108864 "$(limit_inside mapped memory/memory.limit_in_bytes memory.max)"
    says "another container joins its user namespace" "^ +0 +200000 +65536$" run --userns container:mapped "$IMAGE" cat /proc/self/uid_map
    prints "which has its own network" lo engine run --rm --network none --userns container:mapped "$IMAGE" ls /sys/class/net
    prints "and may share the other's" "$(ns mapped net)" engine run --rm --network container:mapped --userns container:mapped "$IMAGE" readlink /proc/self/ns/net
    prints "and its processes" "$(ns mapped pid)" run --pid container:mapped --userns container:mapped "$IMAGE" readlink /proc/self/ns/pid
    prints "and is root there" "0 0" run --userns container:mapped "$IMAGE" sh -c 'echo $(id -u) $(stat -c %u /bin/busybox)'
    expect "exec -t there" /dev/pts/0 "$(engine run -d --name joined --network none --userns container:mapped "$IMAGE" sleep 1000 > /dev/null; pty 80x24 '' "$peer_command" exec -it joined tty)"
    expect "run -t there" /dev/pts/0 "$(pty 80x24 '' "$peer_command" run --rm -it --network none --userns container:mapped "$IMAGE" tty)"
    says "a new user namespace beside a host's network" "$(readlink /proc/self/ns/net | grep -o '[0-9]*')" engine run --rm "${map[@]}" --network host "$IMAGE" readlink /proc/self/ns/net
    says "beside a joined network" "$(ns mapped net | grep -o '[0-9]*')" engine run --rm "${map[@]}" --network container:mapped "$IMAGE" readlink /proc/self/ns/net
    engine rm -f -t 0 joined > /dev/null
    engine rm -f -t 0 mapped > /dev/null
    ends "a pod with a user namespace" 0 engine pod create --name pod --infra-image "$IMAGE" --infra-command 'sleep 1000' --uidmap 0:200000:65536 --gidmap 0:200000:65536 --cgroup-parent "/$parent" --network none
    "$peer_command" run -d --pod pod --name one "$IMAGE" sleep 1000 > /dev/null
    says "its members are in it" "^ +0 +200000 +65536$" engine exec one cat /proc/self/uid_map
    engine pod rm -f -t 0 pod > /dev/null
    expect "run -t" "/dev/pts/0" "$(pty 80x24 '' "$peer_command" run --rm -it --network none "${map[@]}" "$IMAGE" tty)"
    says "with a network of its own" eth0 engine run --rm "${map[@]}" "$IMAGE" ls /sys/class/net
}

# podman's own flags.
own_words() {
    prints "--umask" 0077 run --umask 0077 "$IMAGE" sh -c umask
    says "--rootfs" busybox engine run --rm --network none --rootfs "$work/rootfs" ls -l /bin/sh
    prints "--preserve-fds" passed sh -c 'exec 3< "$0"; "$@"' "$work/word" "$peer_command" run --rm --network none --preserve-fds 1 "$IMAGE" sh -c 'cat <&3'
    engine run -d --name target --network none "$IMAGE" sleep 1000 > /dev/null
    prints "exec --preserve-fds" passed sh -c 'exec 3< "$0"; "$@"' "$work/word" "$peer_command" exec --preserve-fds 1 target sh -c 'cat <&3'
    prints "--pid ns:PATH" "$(ns target pid)" run --pid "ns:/proc/$(engine inspect -f '{{.State.Pid}}' target)/ns/pid" "$IMAGE" readlink /proc/self/ns/pid
    prints "--ipc ns:PATH" "$(ns target ipc)" run --ipc "ns:/proc/$(engine inspect -f '{{.State.Pid}}' target)/ns/ipc" "$IMAGE" readlink /proc/self/ns/ipc
    engine rm -f -t 0 target > /dev/null
    ends "--security-opt mask=" 0 run --security-opt mask=/home "$IMAGE" sh -c '[ -z "$(ls /home)" ]'
    ends "--security-opt unmask=ALL" 0 run --security-opt unmask=ALL "$IMAGE" sh -c '! grep -q timer_list /proc/mounts'
    says "--systemd always" "tmpfs /run tmpfs" run --systemd always "$IMAGE" cat /proc/mounts
    prints "tmpcopyup" "passwd" run --tmpfs /etc "$IMAGE" sh -c 'cd /etc && ls passwd'
    ends "--device-cgroup-rule" 0 run --device-cgroup-rule 'c 10:229 rwm' --cap-add MKNOD "$IMAGE" sh -c 'mknod /tmp/fuse c 10 229 && : < /tmp/fuse'
    prints "--personality" i686 run --personality LINUX32 "$IMAGE" uname -m
    prints "--timeout" 255 sh -c '"$@"; echo $?' sh "$peer_command" run --rm --network none --timeout 1 "$IMAGE" sh -c 'trap "" TERM; while :; do sleep 0.2; done'
    says "--cgroupns private" "^(0|[0-9]+:[a-z_,=]*):/$|^0::/$" run --cgroupns private "$IMAGE" cat /proc/self/cgroup
    ends "--cgroups disabled" 0 "$peer_command" run --rm --network none --cgroups disabled "$IMAGE" true
    says "an overlay volume" "^kept$" run -v "$work/rootfs/etc:/other:O" "$IMAGE" sh -c 'rm /other/passwd && echo kept'
    ends "--memory-reservation, --blkio-weight, --cpu-period" 0 run --memory 64m --memory-reservation 32m --cpu-period 50000 --cpu-quota 25000 "$IMAGE" true
    ends "an annotation" 0 run --annotation org.example.key=value "$IMAGE" true
}

health() {
    engine run -d --name healthy --network none --health-cmd 'test -e /tmp/fine' --health-interval disable --health-retries 1 "$IMAGE" sleep 1000 > /dev/null
    ends "a failing health check" 1 engine healthcheck run healthy
    engine exec healthy touch /tmp/fine
    ends "a good one" 0 engine healthcheck run healthy
    engine rm -f -t 0 healthy > /dev/null
}

# Podman's builder as a program of its own.
buildah_runs() {
    mkdir -p "$work/empty"
    local buildah=(timeout --foreground 60 buildah --root "$work/podman" --runroot /run/peer-containers)
    printf 'FROM %s\nRUN id -u > /who && exit 0\n' "$IMAGE" > "$work/Containerfile"
    ends "buildah build" 0 "${buildah[@]}" build -q --runtime "$runtime" --isolation oci --network none -t peer-buildah -f "$work/Containerfile" "$work/empty"
    local container
    container=$("${buildah[@]}" from peer-buildah)
    prints "buildah run" "0 built" "${buildah[@]}" run --runtime "$runtime" --isolation oci "$container" sh -c 'echo $(cat /who) built'
    prints "with a user and a directory" "1000 /usr" "${buildah[@]}" run --runtime "$runtime" --isolation oci --user 1000 --workingdir /usr "$container" sh -c 'echo $(id -u) $(pwd)'
    expect "on a terminal" "/dev/pts/0" "$(pty 80x24 '' "${buildah[@]}" run -t --runtime "$runtime" --isolation oci "$container" tty | tail -n 1)"
    "${buildah[@]}" rm "$container" > /dev/null
    "${buildah[@]}" rmi peer-buildah > /dev/null
}

# The runtime's errors are read from its log as JSON instead of stderr.
json_errors() {
    sed "s|^events_logger|runtime_supports_json = [\"$runtime\", \"$(basename "$runtime")\"]\n&|" "$CONTAINERS_CONF" > "$work/json.conf"
    local CONTAINERS_CONF=$work/json.conf
    ends "an unknown command gives 127" 127 run "$IMAGE" no-such-command
    ends "an unknown path gives 127" 127 run "$IMAGE" /no/such/command
    ends "a file that is not executable gives 126" 126 run "$IMAGE" /etc/passwd
    says "and the text is the runtime's" "OCI permission denied" run "$IMAGE" /etc/passwd
    engine run -d --name target --network none "$IMAGE" sleep 1000 > /dev/null
    ends "exec of an unknown command gives 127" 127 engine exec target no-such-command
    ends "exec of what is not executable gives 126" 126 engine exec target /etc/passwd
    engine rm -f -t 0 target > /dev/null
}

# Hooks that the engine adds to config.json: each writes the state that it got on stdin.
hooks() {
    mkdir -p "$work/hooks" "$work/seen"
    printf '#!/bin/sh\ncat > %s/$1.$$\n' "$work/seen" > "$work/hook" && chmod 755 "$work/hook"
    local stage
    for stage in prestart createRuntime poststart poststop; do
        printf '{"version":"1.0.0","hook":{"path":"%s","args":["hook","%s"]},"when":{"always":true},"stages":["%s"]}' "$work/hook" "$stage" "$stage" > "$work/hooks/$stage.json"
    done
    ends "a container with hooks" 0 "$peer_command" --hooks-dir "$work/hooks" run --rm --cgroup-parent "/$parent" --network none "$IMAGE" true
    for stage in prestart:created createRuntime:created poststart:running poststop:stopped; do
        # What follows a stop is done by a process that podman leaves behind.
        wait_for 20 sh -c "grep -q ociVersion '$work/seen/${stage%:*}'.*"
        says "${stage%:*} ran" '"ociVersion"' sh -c "cat '$work/seen/${stage%:*}'.*"
    done
    printf '#!/bin/sh\necho the hook says no >&2; exit 1\n' > "$work/hook"
    says "a failing hook fails the container" "hook" "$peer_command" --hooks-dir "$work/hooks" run --rm --cgroup-parent "/$parent" --network none "$IMAGE" true
}

attaching() {
    engine run -d -i --name attached --network none "$IMAGE" sh -c 'read -r line; echo got $line; exit 6' > /dev/null
    expect "attach with stdin" "got word" "$(echo word | engine attach attached)"
    expect "the exit code" 6 "$(engine wait attached)"
    engine rm attached > /dev/null
}

# What holds a container's streams is killed: the container can still be removed.
monitor_killed() {
    engine run -d --name orphan --network none "$IMAGE" sleep 1234 > /dev/null
    local id
    id=$(engine inspect -f '{{.Id}}' orphan)
    kill -9 "$(engine inspect -f '{{.State.ConmonPid}}' orphan)"
    ends "rm -f after the monitor was killed" 0 engine rm -f -t 0 orphan
    wait_for 20 sh -c '! pgrep -f "^sleep 1234"'
    expect "its process is gone" 0 "$(pgrep -fc '^sleep 1234')"
    # Without its monitor podman does not ask the runtime to delete it.
    ends "delete --force of what is left" 0 "$runtime" delete --force "$id"
}

checkpoints() {
    engine run -d --name check --network none "$IMAGE" sleep 1000 > /dev/null
    says "checkpoint is refused" "criu|CRIU|does not support checkpoint" engine container checkpoint check
    expect "and the container goes on" running "$(state check)"
    engine rm -f -t 0 check > /dev/null
}

# Podman of an ordinary user, who has subordinate ids in here; control groups are not his on cgroup v1.
rootless() {
    local own=$work/rootless command=$work/rootless-command
    # Where logind makes it; podman's own clean-up knows no other place.
    local run=/run/user/65534
    mkdir -p "$own/home" "$run" && chmod 700 "$run" && chown -R 65534:65534 "$own" "$run"
    chmod 711 "$work"
    echo nobody:100000:65536 > "$work/ranges"
    mount --bind "$work/ranges" /etc/subuid
    mount --bind "$work/ranges" /etc/subgid
    # The runtime and its configuration are reached whatever directory they are in.
    install -m 755 "$(readlink -f "$RUNTIME")" "$own/$(basename "$RUNTIME")"
    sed '/^network_config_dir/d; /^lock_type/d; /^runtime_supports/d' "$CONTAINERS_CONF" > "$own/containers.conf"
    cat > "$command" << COMMAND
#!/bin/sh
cd '$own' || exit 1
exec setpriv --reuid 65534 --regid 65534 --clear-groups env -u CONTAINERS_STORAGE_CONF HOME='$own/home' XDG_RUNTIME_DIR='$run' \\
    CONTAINERS_CONF='$own/containers.conf' timeout --foreground 60 podman --runtime '$own/$(basename "$RUNTIME")' "\$@"
COMMAND
    chmod 755 "$command"
    "$command" load -q < "$FIXTURES/busybox.tar" > /dev/null 2>&1
    local image=localhost/busybox:latest
    says "rootless: run" "^ +0 +65534 +1$" "$command" run --rm --network none "$image" cat /proc/self/uid_map
    ends "rootless: the exit code" 3 "$command" run --rm --network none "$image" sh -c 'exit 3'
    ends "rootless: an unknown command gives 127" 127 "$command" run --rm --network none "$image" no-such-command
    says "rootless: another user" "^uid=1000\(example\)" "$command" run --rm --network none -u example "$image" id
    says "rootless: the host's network" "$(readlink /proc/self/ns/net | grep -o '[0-9]*')" "$command" run --rm --network host "$image" readlink /proc/self/ns/net
    says "rootless: one's own id inside" "^65534$" "$command" run --rm --network none --userns keep-id "$image" id -u
    says "rootless: --uidmap" "^ +0 +1 +1000$" "$command" run --rm --network none --uidmap 0:1:1000 "$image" cat /proc/self/uid_map
    ends "rootless: a volume" 0 "$command" run --rm --network none -v vol:/vol "$image" touch /vol/file
    says "rootless: a read-only root" "Read-only file system" "$command" run --rm --network none --read-only "$image" touch /file
    says "rootless: --privileged" "Seccomp:.0" "$command" run --rm --network none --privileged "$image" grep Seccomp: /proc/self/status
    says "rootless: a terminal" "/dev/pts/0" pty 80x24 '' "$command" run --rm -it --network none "$image" tty
    "$command" run -d --name target --network none "$image" sleep 1000 > /dev/null 2>&1
    says "rootless: exec" "^uid=0\(root\)" "$command" exec target id
    says "rootless: exec -t" "/dev/pts/0" pty 80x24 '' "$command" exec -it target tty
    ends "rootless: exec of an unknown command gives 127" 127 "$command" exec target no-such-command
    says "rootless: joining another's namespaces" "sleep 1000" "$command" run --rm --network container:target --pid container:target --userns container:target "$image" ps
    says "rootless: top" "sleep 1000" "$command" top target
    ends "rootless: stop" 0 "$command" stop -t 1 target
    ends "rootless: rm" 0 "$command" rm target
    printf 'FROM %s\nRUN id -u > /who\n' "$image" > "$own/home/Dockerfile"
    ends "rootless: build" 0 "$command" build -q --network none --isolation oci --runtime "$own/$(basename "$RUNTIME")" -t built "$own/home"
    "$command" rm -fa -t 0 > /dev/null 2>&1
    umount /etc/subuid /etc/subgid
}

mkdir "$work/rootfs" && tar -xf "$FIXTURES/busybox.tar" -C "$work" ./layer1.tar && tar -xpf "$work/layer1.tar" -C "$work/rootfs"
echo passed > "$work/word"
for group in ${PEERS_ONLY:-exit_codes process_fields mounts security namespaces limits executions terminals lifecycle many building
    default_network pods user_namespaces own_words json_errors buildah_runs health hooks attaching monitor_killed checkpoints rootless}; do
    echo " -- $group"
    $group
done
engine rm -fa -t 0 > /dev/null
nothing_left "no group and no state is left" "libpod-*" "${STATE:-/run/rcon-runtime}"
umount -R -l "$work/podman/overlay" 2> /dev/null
finish
