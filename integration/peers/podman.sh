#!/bin/bash
# Debian's podman, conmon and buildah on the runtime under test. Everything podman knows is beneath $work.
. "$(dirname "$0")/lib.sh"
. "$here/cases.sh"
parent=rcon-peers-podman
# Podman raises the open-files limit by default, which a root without CAP_SYS_RESOURCE may not.
cat > "$work/containers.conf" << CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
init_path = "/usr/bin/tini"
[network]
network_config_dir = "$work/networks"
CONF
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf BUILDAH_ISOLATION=oci
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "/run/peer-containers"\n' "$work/podman" > "$work/storage.conf"
peer_command=$work/podman-command
printf '#!/bin/sh\nexec podman --runtime %s --tmpdir %s "$@"\n' "$runtime" /run/peer-libpod > "$peer_command" && chmod 755 "$peer_command"
# Podman has no daemon that sets a parent of all groups, so the two verbs that make containers get a flag.
engine() {
    local verb=$1
    shift
    case $verb in
        run | create) "$peer_command" "$verb" --cgroup-parent "/$parent" "$@" ;;
        *) "$peer_command" "$verb" "$@" ;;
    esac
}
EXEC_MISSING=127 EXEC_PAUSED=255 RM_RUNNING=2 BUILD_FLAGS=(-q --runtime "$runtime")

engine load -q -i "$FIXTURES/busybox.tar" > /dev/null
IMAGE=$(engine images --format '{{.Repository}}:{{.Tag}}' | head -n 1)
for group in ${PEERS_ONLY:-exit_codes process_fields mounts security namespaces limits executions terminals lifecycle many building}; do
    echo " -- $group"
    $group
done
engine rm -fa > /dev/null
remove_cgroups "$parent"
umount -R -l "$work/podman/overlay" 2> /dev/null
finish
