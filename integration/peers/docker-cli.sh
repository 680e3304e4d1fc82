#!/bin/bash
# Docker's command line (Debian's docker.io, or DOCKER) and Docker's Python library, on `rcon serve`.
. "$(dirname "$0")/lib.sh"
. "$here/../registry-lib.sh"
. "$here/docker-cli-containers.sh"
. "$here/docker-cli-images.sh"
socket=$work/s.sock
peer_command=$work/docker
printf '#!/bin/sh\nexec timeout --foreground 120 %s -H unix://%s "$@"\n' "${DOCKER:-docker}" "$socket" > "$peer_command" && chmod 755 "$peer_command"
engine() { "$peer_command" "$@"; }
export DOCKER_BUILDKIT=0 DOCKER_CONFIG=$work/config DOCKER_CLI_HINTS=false
IMAGE=busybox:latest

serve() { "$RCON" --root "$work/data" --run-root "$work/run" serve --listen "unix://$1" "${@:2}"; }
start_server() {
    "$RCON" --root "$work/data" --run-root "$work/run" serve --listen "unix://$socket" "$@" > "$work/serve.log" 2>&1 &
    server=$!
    wait_for 60 engine version || { fail "the server starts" "$(tail -n 5 "$work/serve.log" | tr '\n' ' ')"; finish; exit 1; }
}
stop_server() { kill "$server" 2> /dev/null; wait "$server" 2> /dev/null; }

state() { engine inspect -f '{{.State.Status}}' "$1" 2>&1; }
is() { [ "$(state "$1")" = "$2" ]; }
gone() { ! engine inspect "$1"; }
has_line() { grep -q -e "$2" "$1"; } # FILE PATTERN
logged() { engine logs "$1" 2>&1 | grep -q -e "$2"; } # CONTAINER PATTERN
# on_terminal CODE INPUT COMMAND...: its code on a terminal of 30 rows and 100 columns; what it shows is kept in $work/shown.
on_terminal() {
    local wanted=$1 input=$2 name=$3 code
    shift 3
    python3 "$here/terminal.py" 100x30 "$input" "$@" > "$work/shown.raw"
    code=$?
    tr -d '\r' < "$work/shown.raw" > "$work/shown"
    expect "$name" "$wanted" "$code"
}
# raw METHOD PATH [BODY]: the status of a request that no client would send; the answer is kept in $work/answer.
raw() {
    curl -s -o "$work/answer" -w '%{http_code}' --max-time 60 --unix-socket "$socket" -X "$1" ${3+-H 'Content-Type: application/json' -d "$3"} "http://localhost$2"
}

the_socket() {
    expect "the socket is root's alone" "600 0:0 socket" "$(stat -c '%a %u:%g %F' "$socket")"
    serve "$socket" > "$work/second" 2>&1
    expect "a second server on it is refused" 1 $?
    expect "and says why" 1 "$(grep -c 'is served by another process already' "$work/second")"
    expect "which does not harm the first" OK "$(curl -s --unix-socket "$socket" http://localhost/_ping)"
    touch "$work/plain"
    serve "$work/plain" > "$work/second" 2>&1
    expect "a plain file in its place is refused, and kept" "1 1 yes" "$? $(grep -c 'is not a socket' "$work/second") $([ -f "$work/plain" ] && echo yes)"
    "$RCON" --root "$work/data" --run-root "$work/run" serve --listen "unix://$work/grouped.sock" --group nogroup > "$work/grouped.log" 2>&1 &
    local second=$!
    wait_for 60 curl -sf --unix-socket "$work/grouped.sock" http://localhost/_ping
    expect "--group" "660 0:$(getent group nogroup | cut -d: -f3)" "$(stat -c '%a %u:%g' "$work/grouped.sock")"
    engine create --name both --network none "$IMAGE" true > /dev/null
    expect "two servers show one state" 1 "$(curl -s --unix-socket "$work/grouped.sock" 'http://localhost/containers/json?all=1' | grep -c '"/both"')"
    engine rm both > /dev/null
    kill "$second"
    wait "$second"
    expect "SIGTERM ends it well, and its socket goes" "0 no" "$? $([ -e "$work/grouped.sock" ] && echo yes || echo no)"
}

requests() {
    expect "a version that is too new" 400 "$(raw GET /v1.99/info)"
    expect "an unknown page" 404 "$(raw GET /nothing)"
    expect "a body that is no JSON" 400 "$(raw POST /containers/create '{"Image":')"
    expect "an unknown container" '404 {"message":"No such container: none"}' "$(raw GET /containers/none/json) $(cat "$work/answer")"
    expect "create" 201 "$(raw POST '/containers/create?name=raw' '{"Image":"busybox","Cmd":["sleep","100"],"HostConfig":{"NetworkMode":"none"}}')"
    expect "the name again" 409 "$(raw POST '/containers/create?name=raw' '{"Image":"busybox"}')"
    expect "an image that is not here" 404 "$(raw POST /containers/create '{"Image":"none:none"}')"
    expect "start" 204 "$(raw POST /containers/raw/start)"
    expect "start again" 304 "$(raw POST /containers/raw/start)"
    expect "removal of what runs" 409 "$(raw DELETE /containers/raw)"
    expect "kill" 204 "$(raw POST /containers/raw/kill)"
    expect "wait tells the code" '200 {"StatusCode":137}' "$(raw POST /containers/raw/wait) $(tr -d '\r\n' < "$work/answer")"
    expect "stop of what has ended" 304 "$(raw POST /containers/raw/stop)"
    expect "kill of what has ended" 409 "$(raw POST /containers/raw/kill)"
    expect "null is an empty document" 201 "$(raw POST '/commit?container=raw&repo=raw' null)"
    engine rmi raw > /dev/null
    expect "removal" 204 "$(raw DELETE /containers/raw)"
    expect "an old client's version" 200 "$(raw GET /v1.24/containers/json)"
}

# The server dies; what it served does not notice.
server_dies() {
    local pid begin
    engine run -d --name survivor --network none "$IMAGE" sh -c 'i=0; while :; do i=$((i + 1)); echo $i; [ ! -e /end ] || exit 4; sleep 0.1; done' > /dev/null
    pid=$(engine inspect -f '{{.State.Pid}}' survivor)
    "$peer_command" run --rm --name watched --network none "$IMAGE" sh -c 'echo there; sleep 1000' > "$work/watched.out" 2>&1 &
    local client=$!
    wait_for 60 has_line "$work/watched.out" there
    kill -9 "$server"
    wait "$server" 2> /dev/null
    wait_for 60 sh -c "! kill -0 $client"
    wait "$client" 2> /dev/null
    expect "who was attached ends, and not as if all were well" yes "$([ $? != 0 ] && echo yes)"
    begin=$(rcon logs --tail 1 survivor)
    expect "the container outlives the server" yes "$(wait_for 60 sh -c "[ \"\$('$RCON' --root '$work/data' --run-root '$work/run' logs --tail 1 survivor)\" -gt $begin ]" && echo yes)"
    expect "the socket is left" socket "$(stat -c %F "$socket")"
    start_server
    expect "a new server takes its place and knows the container" "running $pid" "$(engine inspect -f '{{.State.Status}} {{.State.Pid}}' survivor)"
    expect "and what was run in the foreground" running "$(state watched)"
    prints "exec" again engine exec survivor echo again
    # Only then follow: the end comes through the new server, too.
    "$peer_command" logs -f --tail 1 survivor > "$work/follow" 2>&1 &
    client=$!
    wait_for 60 test -s "$work/follow"
    engine exec survivor touch /end
    expect "wait" 4 "$(engine wait survivor)"
    wait "$client"
    expect "and the log ends" 0 $?
    ends "stop of the other" 0 engine stop -t 1 watched
    expect "--rm still holds" yes "$(wait_for 60 gone watched && echo yes)"
    ends "start again" 0 engine start survivor
    ends "stop" 0 engine rm -f survivor
    stop_server
    expect "SIGTERM removes the socket" no "$([ -e "$socket" ] && echo yes || echo no)"
    start_server
}

python_library() {
    timeout 900 "$FIXTURES/docker-py/bin/python" "$here/docker-py.py" "unix://$socket" "$IMAGE" 2>&1 | tee "$work/py.out"
    passed=$((passed + $(grep -c '^  ok ' "$work/py.out"))) failed=$((failed + $(grep -c '^  FAIL ' "$work/py.out")))
    expect "docker-py.py ends" 1 "$(grep -c '^docker-py.py: all was tried$' "$work/py.out")"
}

start_server
engine load -q -i "$FIXTURES/busybox.tar" > /dev/null || fail "load"
for group in ${PEERS_ONLY:-the_socket requests runs options streams terminals attaching logging executions copying states live_facts waiting_and_events
    many leaving health volumes networks images archives building registry pruning the_system python_library server_dies}; do
    echo " -- $group"
    $group
done
expect "the server has nothing to complain of" "" "$(grep -iE 'panicked|error' "$work/serve.log" | head -n 3)"
for id in $(engine ps -aq); do engine rm -f "$id" > /dev/null; done
no_leaks "nothing is left"
stop_server
stop_registry
finish
