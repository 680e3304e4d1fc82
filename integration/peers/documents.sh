#!/bin/bash
# The same things made with Docker and with rcon: `inspect` has the same keys and types, `commit` makes the same layer and
# config, `cp` obeys the same rules.
. "$(dirname "$0")/lib.sh"
export DOCKER_CONFIG=$work/config
socket=unix://$work/docker.sock
docker() { timeout --foreground 60 /usr/bin/env docker -H "$socket" "$@"; }
dockerd --data-root "$work/docker-data" --exec-root /run/docker --pidfile "$work/docker.pid" -H "$socket" --bip 172.31.250.1/24 \
    --cgroup-parent "/$parent" > "$work/dockerd.log" 2>&1 &
daemon=$!
wait_for 120 docker version || { fail "dockerd starts" "$(tail -n 5 "$work/dockerd.log" | tr '\n' ' ')"; finish; exit 1; }
docker load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null

# same NAME COMMAND...: the command prints the same with both, run as `docker …` and as `rcon …`.
same() {
    local name=$1 one two
    shift
    one=$(docker "$@" 2> /dev/null; echo "exit $?")
    two=$(rcon "$@" 2> /dev/null; echo "exit $?")
    expect "$name" "$one" "$two"
}
# both COMMAND...: with both, which must agree on whether it succeeds.
both() {
    local one two
    docker "$@" > /dev/null; one=$?
    rcon "$@" > /dev/null; two=$?
    [ "$one" = "$two" ] || fail "both: $*" "Docker ends with $one, rcon with $two"
}

documents() { # NAME INSPECT...
    local name=$1
    shift
    docker "$@" > "$work/reference.json" && rcon "$@" > "$work/ours.json"
    expect "$name" "" "$(python3 "$here/documents.py" "$work/reference.json" "$work/ours.json")"
}

inspecting() {
    both volume create --label a=b data
    both run -d --name web -p 80 -v data:/data -v /tmp:/host:ro --tmpfs /t -e A=1 -l k=v --memory 64m --cpus 0.5 --cap-add NET_ADMIN \
        --ulimit nofile=1000:2000 --add-host h:1.2.3.4 --dns 9.9.9.9 --device /dev/null:/dev/x --stop-signal INT --stop-timeout 3 --init --restart on-failure:2 \
        --log-opt max-size=1m --sysctl net.core.somaxconn=100 --security-opt no-new-privileges --expose 90 busybox sleep 600
    documents "a running container's document" inspect --size web
    both create --name idle busybox
    documents "a created one's" container inspect idle
    documents "an image's" image inspect busybox
    documents "a volume's" volume inspect data
    both rm -f web idle
}

committing() {
    local script='echo x > /added; ln /added /twin; ln -s /none /link; mkfifo /pipe; mkdir -p /deep/er; touch -d @1000000000 /deep/er/old
        chmod 4711 /added; chown 5:6 /twin; rm /etc/group; rm -r /home; mkdir /home; echo y > /home/own'
    both run --name source -e A=1 -l k=v busybox sh -c "$script"
    both commit -a me -m why -c 'CMD ["cat", "/added"]' -c 'ENV B=2' -c 'EXPOSE 80' -c 'LABEL l=1' -c 'USER 1' -c 'WORKDIR /deep' -c 'VOLUME /vol' \
        -c 'ENTRYPOINT ["env"]' -c 'ONBUILD RUN x' source made
    for key in Cmd Entrypoint User WorkingDir ExposedPorts Volumes Labels OnBuild; do
        same "commit: $key" image inspect -f "{{json .Config.$key}}" made
    done
    expect "commit: Env" "$(docker image inspect -f '{{join .Config.Env "\n"}}' made | sort)" "$(rcon image inspect -f '{{join .Config.Env "\n"}}' made | sort)"
    same "commit: author, comment and number of layers" image inspect -f '{{.Author}} {{len .RootFS.Layers}}' made
    same "commit: the message is in the history" history --format '{{.Comment}}' made
    local look='find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -print | sort | while read -r f; do
        case $f in /|/etc/hosts|/etc/hostname|/etc/resolv.conf|/etc/mtab|/.dockerenv|/vol) continue;; esac
        # How many names a directory has is the file system'\''s affair.
        if [ -d "$f" ] && [ ! -L "$f" ]; then stat -c "%n %f %u %g" "$f"; else stat -c "%n %f %u %g %h" "$f"; fi; done'
    for engine in docker rcon; do
        "$engine" run --rm --network none -u 0 --entrypoint sh made -c "$look" > "$work/tree.$engine"
    done
    expect "commit: the same tree" "$(grep -v "^/etc " "$work/tree.docker")" "$(grep -v "^/etc " "$work/tree.rcon")"
    same "commit: a time of long ago" run --rm -u 0 --entrypoint stat made -c %Y /deep/er/old
    both rm source
    both rmi made
}

# The exit codes that scripts rely on; the words are each engine's own.
exit_codes() {
    local line one two
    both create --name made busybox
    both run --name ended busybox true
    while read -r line; do
        eval "docker $line" > /dev/null 2>&1 < /dev/null; one=$?
        eval "rcon $line" > /dev/null 2>&1 < /dev/null; two=$?
        expect "exit code of $line" "$one" "$two"
    done << 'LINES'
run --rm busybox sh -c 'exit 300'
run --rm busybox sh -c 'kill -9 $$'
run --rm busybox /etc
run --rm busybox /etc/passwd
run --rm busybox nothing
run --rm --restart always busybox true
run --rm -m 1m busybox true
run --rm --cpus 1000 busybox true
run --rm --memory-swap 1g busybox true
run --rm --user nobodyhere busybox true
run --rm --name made busybox true
run --rm --pull never nothere true
run --rm -v /a:/b -v /c:/b busybox true
run --rm --mount type=bind,source=/not/here,target=/x busybox true
run --rm --network container:nobody busybox true
run --rm --network host --sysctl net.core.somaxconn=1 busybox true
run --rm --sysctl vm.swappiness=1 busybox true
run --rm --oom-score-adj 2000 busybox true
run --rm --security-opt nonsense=1 busybox true
run --rm --cap-add NONSENSE busybox true
run --rm --volumes-from nobody busybox true
run --rm --env-file /not/here busybox true
run --rm -it busybox true
run --rm --nonsense busybox true
create --nonsense busybox
start nobody
stop nobody
stop ended
kill ended
rm nobody
inspect nobody
inspect --type volume ended
logs nobody
port made 80
top made
pause made
unpause made
rename nobody other
rename made ended
update --memory 1m made
update nobody
wait nobody
cp nobody:/x .
cp made:/nothere .
exec made true
diff nobody
commit nobody
export nobody
tag nothere x
rmi nothere
history nothere
image inspect nothere
volume rm nothere
volume inspect nothere
volume rm -f nothere
ps --filter nonsense=1
ps --filter status=nonsense
ps --format '{{.Nonsense}}'
ps --format '{{'
inspect -f '{{.Nonsense}}' made
inspect -f '{{' made
images --filter nonsense=1
login --nonsense
LINES
    both rm made ended
}

# Templates of scripts print the same.
templates() {
    local template
    both create --name made -l k=v -e A=1 -p 8080:80 -v /tmp:/host:ro --restart on-failure:3 busybox sh -c 'a b'
    while read -r template; do
        same "inspect -f $template" inspect -f "$template" made
    done << 'TEMPLATES'
{{.Name}} {{.Path}} {{.Args}} {{len .Args}}
{{json .Config.Labels}} {{index .Config.Labels "k"}} {{index .Config.Labels "none"}}|
{{.Config.Labels}} {{.Config.Env}} {{.Config.Cmd}} {{.Config.Tty}}
{{range .Mounts}}{{.Type}} {{.Source}}:{{.Destination}} {{.RW}}{{end}}
{{range $k, $v := .HostConfig.PortBindings}}{{$k}}={{(index $v 0).HostPort}}{{end}}
{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}
{{with .State}}{{.Status}} {{.Running}} {{.ExitCode}}{{end}}
{{if eq .State.Status "created"}}new{{else if .State.Running}}up{{else}}other{{end}}
{{printf "%-10s|%5d|%q|%v|%t" .Name 42 .Path .Args .State.Running}}
{{printf "%s %d" 1 "x"}}
{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.Privileged}}
{{join .Config.Env ","}} {{split "a:b" ":"}} {{title "abc"}} {{upper "abc"}} {{lower "ABC"}} {{truncate "abcdef" 3}} {{pad "x" 2 2}}|
{{range $i, $e := .Args}}{{if $i}}, {{end}}{{$e}}{{end}}
{{slice .Path 0 1}} {{len "ä"}} {{html "<&>"}} {{js "'"}} {{urlquery "a b"}}
{{define "x"}}[{{.}}]{{end}}{{template "x" .Path}}
{{$x := 1}}{{$x}}{{$x = 2}}{{$x}} {{and 1 0}} {{or 0 "y"}} {{not true}} {{lt 1 2}} {{ne "a" "b"}}
{{- .Path -}} x {{- /* c */ -}} y
{{println "a" 1}}{{print "a" 1 2 "b"}}
{{.State.Health}}
{{.HostConfig.LogConfig.Type}} {{.HostConfig.ShmSize}} {{.HostConfig.Init}}
{{.HostConfig.CapAdd}} {{.HostConfig.VolumesFrom}} {{.HostConfig.Ulimits}} {{.Config.Volumes}} {{.Config.Entrypoint}} {{.HostConfig.MemorySwappiness}} {{.ExecIDs}}
TEMPLATES
    for template in '{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Status}} {{.Ports}} {{.Labels}} {{.Label "k"}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}' \
        'table {{.Names}}\t{{.Image}}\t{{.Label "k"}}' '{{json .Names}}' '{{upper .Names}}|{{.Names | title}}' '{{range .Names}}x{{end}}'; do
        same "ps --format $template" ps -a --format "$template"
    done
    both rm made
}

# What `ps` finds by its filters, in its order; and other lists. (Not `expose`: Docker forgets what a stopped one exposes.)
lists() {
    local filter
    both volume create data
    both run --name one -l k=v -v data:/data --expose 90 busybox sh -c 'exit 3'
    both run --name two -l k=w -e A=1 busybox true
    both create --name three -l other -v /x busybox sleep 5
    both run -d --name four --network none busybox sleep 600
    both pause four
    while read -r filter; do
        same "ps $filter" ps -a --format '{{.Names}} {{.State}}' $filter
    done << 'FILTERS'
--no-trunc
-n 2
-l
-f name=o
-f name=^/one$
-f name=^two$ -f name=three
-f label=k
-f label=k=v
-f label=k -f label=other
-f status=exited
-f status=created -f status=paused
-f exited=3
-f exited=0 -f exited=3
-f ancestor=busybox
-f ancestor=busybox:latest
-f volume=data
-f volume=/data
-f before=two
-f since=two
-f network=none
-f health=none
-f is-task=false
-f label=k -f exited=3
FILTERS
    same "ps without -a" ps --format '{{.Names}}'
    same "ps -q" ps -q --filter name=nobody
    for filter in one two three; do
        same "wait $filter" wait "$filter"
        same "port $filter" port "$filter"
    done
    same "diff" diff two
    same "volume ls" volume ls --format '{{.Name}} {{.Driver}}' -f name=data
    same "rm of several" rm -v one nobody two
    same "rename" rename three drei
    same "its new name" ps -a --format '{{.Names}}'
    both unpause four
    both rm -f -v drei four
}

# A fresh directory for each engine, the same commands, the same result.
copying() {
    local engine rule
    both run -d --name box busybox sh -c 'mkdir -p /d/sub /e; echo 1 > /d/f; echo 2 > /d/sub/g; ln -s f /d/l; ln -s /d /dl; ln -s /none /dangling; sleep 600'
    wait_for 20 docker exec box ls /dangling
    wait_for 20 rcon exec box ls /dangling
    while read -r rule; do
        for engine in docker rcon; do
            rm -rf "$work/host" && mkdir -p "$work/host/dir/inner" && echo old > "$work/host/file" && echo deep > "$work/host/dir/inner/x"
            ln -s file "$work/host/link"; ln -s dir "$work/host/dirlink"; ln -s nothing "$work/host/broken"
            "$engine" exec box sh -c 'rm -rf /w; mkdir -p /w/dir; echo w > /w/file; ln -s file /w/link; ln -s dir /w/dirlink; ln -s gone /w/broken'
            # shellcheck disable=SC2086
            (cd "$work/host" && eval "$engine cp $rule" > /dev/null 2>&1; echo "exit $?") > "$work/result.$engine"
            (cd "$work/host" && find . | sort | xargs stat -c '%n %F' 2> /dev/null; find . -type f | sort | xargs cat) >> "$work/result.$engine"
            "$engine" exec box sh -c 'cd /w && find . | sort | while read -r f; do stat -c "%n %F %u" "$f"; done; find . -type f | sort | xargs cat' >> "$work/result.$engine"
        done
        expect "cp $rule" "$(cat "$work/result.docker")" "$(cat "$work/result.rcon")"
    done << 'RULES'
box:/d new
box:/d dir
box:/d/. dir
box:/d/. new
box:/d/ dir/
box:/d file
box:/d/f file
box:/d/f new
box:/d/f new/
box:/d/f dir
box:/d/f missing/parent
box:/d/l l
-L box:/d/l l
box:/dl dl
-L box:/dl dl
box:/dl/ dl
box:/dangling x
-L box:/dangling x
box:/d/f link
box:/d/f dirlink
box:/d/f broken
box:/none x
box:/d/f/ x
dir box:/w
dir box:/w/new
dir/. box:/w/dir
dir/. box:/w/new
dir box:/w/file
file box:/w
file box:/w/file
file box:/w/new
file box:/w/new/
file box:/w/link
file box:/w/dirlink
file box:/w/broken
file box:/none/x
link box:/w/got
-L link box:/w/got
dirlink box:/w/got
broken box:/w/got
none box:/w
-a file box:/w/owned
box:/d/f -
RULES
    both rm -f box
}

inspecting
committing
exit_codes
templates
lists
copying
kill "$daemon" 2> /dev/null
wait "$daemon" 2> /dev/null
no_leaks "nothing is left behind"
finish
