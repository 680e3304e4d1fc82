# Sourced: a real registry (Debian's docker-registry) on loopback, and a server of tokens.
registry_lib=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
listens() { wait_for 60 bash -c "exec 3<> /dev/tcp/127.0.0.1/$1"; } # PORT

start_tokens() { # PORT
    python3 "$registry_lib/token-server.py" "$work/token" "$1" > "$work/token.log" 2>&1 &
    registry_pids="${registry_pids:-} $!"
    # Its certificate is there some time before it answers.
    listens "$1" || { echo "the server of tokens does not start:"; cat "$work/token.log"; exit 1; }
}

start_registry() { # PORT
    mkdir -p "$work/registry-$1"
    cat > "$work/registry-$1.yml" <<CONFIG
version: 0.1
log: {level: error}
storage:
  filesystem: {rootdirectory: $work/registry-$1}
  delete: {enabled: true}
http: {addr: 127.0.0.1:$1${2:-}}
CONFIG
    [ -z "${AUTH_YAML:-}" ] || printf '%s\n' "$AUTH_YAML" >> "$work/registry-$1.yml"
    docker-registry serve "$work/registry-$1.yml" > "$work/registry-$1.log" 2>&1 &
    registry_pids="${registry_pids:-} $!"
    listens "$1" || { echo "the registry does not start:"; cat "$work/registry-$1.log"; exit 1; }
}

stop_registry() {
    local pid
    for pid in ${registry_pids:-}; do kill "$pid" 2> /dev/null; wait "$pid" 2> /dev/null; done
}

# push TAR NAME [skopeo options]
push() {
    local tar=$1 name=$2
    shift 2
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false "$@" "docker-archive:$tar" "docker://$name" || { echo "cannot push $name"; exit 1; }
}
