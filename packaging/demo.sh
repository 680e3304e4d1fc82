#!/bin/bash
# demo.sh RCON IMAGE_TAR: loads an image and runs a container with limits that shows what is isolated.
set -euo pipefail
rcon=$1 image=$2
"$rcon" load -i "$image"
"$rcon" run --rm --name rcon-demo --memory 64m --cpus 0.5 --pids-limit 50 -e GREETING=hello busybox sh -c '
    echo "$GREETING from a container"
    echo "  pid          $$ (its own PID namespace)"
    echo "  hostname     $(hostname)"
    echo "  processes    $(ls /proc | grep -c "^[0-9]")"
    echo "  addresses    $(ip -o -4 addr show | while read -r _ dev _ addr _; do printf "%s %s  " "$dev" "$addr"; done)"
    echo "  root         $(while read -r _ path type _; do [ "$path" = / ] && echo "$type"; done < /proc/mounts)"
    limit() { for file in "$@"; do [ -r "$file" ] && cat "$file" && return; done; echo "not visible"; }
    probe > /tmp/probe.json
    echo "  capabilities $(grep -o "\"CapEff\":\"[0-9a-f]*\"" /tmp/probe.json | cut -d\" -f4)"
    echo "  seccomp      mode $(grep -o "\"Seccomp\":\"[0-9]\"" /tmp/probe.json | cut -d\" -f4)"
    echo "  cgroup       $(tail -n 1 /proc/self/cgroup)"
'
"$rcon" run -d --name rcon-demo --memory 64m --cpus 0.5 --pids-limit 50 busybox sleep 60 > /dev/null
trap '"$rcon" rm -f rcon-demo > /dev/null' EXIT
echo "limits as the host sees them:"
"$rcon" inspect -f '  memory {{.HostConfig.Memory}} bytes, cpus {{.HostConfig.NanoCpus}} billionths, pids {{.HostConfig.PidsLimit}}' rcon-demo
"$rcon" stats --no-stream rcon-demo
