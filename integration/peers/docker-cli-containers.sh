# Sourced by docker-cli.sh: containers and what is done with them.
runs() {
    prints "run" hello engine run --rm --network none "$IMAGE" echo hello
    ends "its code: 0" 0 engine run --rm --network none "$IMAGE" true
    ends "its code: 7" 7 engine run --rm --network none "$IMAGE" sh -c 'exit 7'
    ends "a signal" 143 engine run --rm --init --network none "$IMAGE" sh -c 'kill -TERM $$'
    ends "an unknown image" 125 engine run --rm --pull never --network none no-such-image true
    ends "an unknown network" 125 engine run --rm --network no-such-network "$IMAGE" true
    ends "a directory as command" 126 engine run --rm --network none "$IMAGE" /etc
    ends "an unknown command" 127 engine run --rm --network none "$IMAGE" no-such-command
    expect "all of them are gone" "" "$(engine ps -aq)"
    engine run -d --name detached --cidfile "$work/cid" --network none "$IMAGE" sleep 1000 > "$work/out"
    expect "-d prints the id" 1 "$(grep -cE '^[0-9a-f]{64}$' "$work/out")"
    expect "--cidfile" "$(cat "$work/out")" "$(cat "$work/cid")"
    expect "it runs" running "$(state detached)"
    ends "its name again" 125 engine run --name detached --network none "$IMAGE" true
    engine rm -f detached > /dev/null
    engine run -d --rm --name brief --network none "$IMAGE" sh -c 'until [ -e /go ]; do sleep 0.1; done' > /dev/null
    engine exec brief touch /go
    expect "-d --rm" yes "$(wait_for 60 gone brief && echo yes)"
    prints "process fields" "1000:1000 /tmp b host.name" engine run --rm --network none -u 1000 -w /tmp -e A=b -h host.name "$IMAGE" sh -c 'echo $(id -u):$(id -g) $(pwd) $A $(hostname)'
    prints "--entrypoint" "x y" engine run --rm --network none --entrypoint echo "$IMAGE" x y
    prints "--read-only and --tmpfs" "1 0" engine run --rm --network none --read-only --tmpfs /scratch "$IMAGE" sh -c 'touch /x 2> /dev/null; a=$?; touch /scratch/x; echo $a $?'
    mkdir -p "$work/shared" && echo theirs > "$work/shared/file"
    prints "-v of a directory, read-only" "theirs 1" engine run --rm --network none -v "$work/shared:/s:ro" "$IMAGE" sh -c 'touch /s/x 2> /dev/null; echo $(cat /s/file) $?'
    prints "--mount" theirs engine run --rm --network none --mount "type=bind,source=$work/shared,target=/s" "$IMAGE" cat /s/file
    ends "--mount of what is not there" 125 engine run --rm --network none --mount "type=bind,source=$work/none,target=/s" "$IMAGE" true
    prints "--cap-drop" 0000000000000000 engine run --rm --network none --cap-drop ALL "$IMAGE" sh -c 'sed -n "s/CapEff:.//p" /proc/self/status'
    prints "--init" 1 engine run --rm --network none --init "$IMAGE" sh -c '[ $$ != 1 ] && echo 1'
    prints "--ulimit and --sysctl" "77 1234" engine run --rm --network none --ulimit nofile=77 --sysctl net.ipv4.ip_unprivileged_port_start=1234 "$IMAGE" sh -c 'echo $(ulimit -n) $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)'
    engine run -d --name again --network none --restart on-failure:2 "$IMAGE" sh -c 'echo x; exit 1' > /dev/null
    expect "--restart on-failure:2" "exited 2" "$(wait_for 60 sh -c "'$peer_command' inspect -f '{{.State.Status}} {{.RestartCount}}' again | grep -qx 'exited 2'"; engine inspect -f '{{.State.Status}} {{.RestartCount}}' again)"
    expect "with all of its runs' output" "x x x" "$(engine logs again | paste -sd' ')"
    engine rm again > /dev/null
    engine run --name hog --network none --memory 32m --memory-swap 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null
    expect "an out-of-memory kill" "true 137" "$(engine inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hog)"
    engine rm hog > /dev/null
}

# What is asked for at `create` arrives, or is refused by name.
options() {
    alone() { engine run --rm --network none "$@"; }
    engine run -d --name data --network none -v /data "$IMAGE" sh -c 'echo kept > /data/f; sleep 1000' > /dev/null
    wait_for 60 engine exec data test -s /data/f
    prints "--volumes-from" kept alone --volumes-from data "$IMAGE" cat /data/f
    ends "--volumes-from, read-only" 1 alone --volumes-from data:ro "$IMAGE" touch /data/x
    expect "--pid container:" yes "$(alone --pid container:data "$IMAGE" ps | grep -q '[s]leep 1000' && echo yes)"
    engine rm -f -v data > /dev/null
    expect "--pid host" "$(readlink /proc/self/ns/pid)" "$(alone --pid host "$IMAGE" readlink /proc/self/ns/pid)"
    expect "--ipc host and --uts host" "$(readlink /proc/self/ns/ipc) $(readlink /proc/self/ns/uts)" "$(alone --ipc host --uts host "$IMAGE" sh -c 'echo $(readlink /proc/self/ns/ipc) $(readlink /proc/self/ns/uts)')"
    prints "--device" "1,3" alone --device /dev/null:/dev/other:r "$IMAGE" stat -c '%t,%T' /dev/other
    prints "--security-opt" "0 1" alone --security-opt seccomp=unconfined --security-opt no-new-privileges "$IMAGE" sh -c 'echo $(sed -n "s/^Seccomp:.//p; s/^NoNewPrivs:.//p" /proc/self/status | sort)'
    prints "--shm-size" 1024 alone --shm-size 1m "$IMAGE" sh -c "df -k /dev/shm | awk 'NR == 2 { print \$2 }'"
    prints "--oom-score-adj" 500 alone --oom-score-adj 500 "$IMAGE" cat /proc/self/oom_score_adj
    prints "--cpuset-cpus" 0 alone --cpuset-cpus 0 "$IMAGE" sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status
    prints "--group-add" "0 10 1234" alone --group-add 1234 "$IMAGE" id -G
    prints "--mount type=tmpfs" "700 1024" alone --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700 "$IMAGE" sh -c "echo \$(stat -c %a /t) \$(df -k /t | awk 'NR == 2 { print \$2 }')"
    prints "--add-host, --dns and theirs" "192.0.2.9 nameserver 192.0.2.1 search a.b options ndots:2" engine run --rm --add-host h:192.0.2.9 --network none --dns 192.0.2.1 --dns-search a.b --dns-option ndots:2 "$IMAGE" \
        sh -c 'echo $(awk "\$2 == \"h\" { print \$1 }" /etc/hosts) $(cat /etc/resolv.conf)'
    prints "--mac-address" 02:42:ac:11:00:99 engine run --rm --mac-address 02:42:ac:11:00:99 "$IMAGE" cat /sys/class/net/eth0/address
    expect "--privileged" "$(sed -n 's/^CapEff:.//p' /proc/self/status)" "$(alone --privileged "$IMAGE" sed -n 's/^CapEff:.//p' /proc/self/status)"
    engine create --name limited --network none --memory 64m --memory-reservation 32m --pids-limit 20 --cpus 0.5 --cpu-shares 512 "$IMAGE" true > /dev/null
    expect "limits are shown" "67108864 33554432 20 500000000 512" "$(engine inspect -f '{{with .HostConfig}}{{.Memory}} {{.MemoryReservation}} {{.PidsLimit}} {{.NanoCpus}} {{.CpuShares}}{{end}}' limited)"
    engine rm limited > /dev/null
    engine run -d --name stops --network none --stop-signal USR1 --stop-timeout 60 "$IMAGE" sh -c 'trap "exit 33" USR1; echo ready; while :; do sleep 0.1; done' > /dev/null
    wait_for 60 logged stops ready
    engine stop stops > /dev/null
    expect "--stop-signal" 33 "$(engine inspect -f '{{.State.ExitCode}}' stops)"
    engine rm stops > /dev/null
    engine run -d --name exposed --expose 70 -P "$IMAGE" sleep 1000 > /dev/null
    expect "-P" 1 "$(engine port exposed | grep -cE '^70/tcp -> 0\.0\.0\.0:[0-9]+$')"
    ends "--link" 0 engine run --rm --link exposed:alias "$IMAGE" ping -c 1 -W 20 alias
    engine rm -f exposed > /dev/null
    local refused
    for refused in "--runtime none" "--storage-opt size=1G" "--isolation hyperv" "--security-opt bad=x" "--stop-signal NOPE" "--log-driver none-such" "--device /dev/none-such" "--platform linux/none-such"; do
        ends "$refused is refused" 125 alone $refused "$IMAGE" true
        expect "by name" yes "$(grep -qi -e "$(sed 's/.*[ =/]//' <<< "$refused")" "$work/out" && echo yes)"
    done
    expect "and nothing is left of it" "" "$(engine ps -aq)"
}

streams() {
    local sum code
    head -c 3145728 /dev/urandom > "$work/in"
    sum=$(sha256sum < "$work/in")
    expect "3 MB in through -i" "$sum" "$(engine run --rm -i --network none "$IMAGE" sha256sum < "$work/in")"
    expect "and out again" "$sum" "$(engine run --rm -i --network none "$IMAGE" cat < "$work/in" | sha256sum)"
    expect "nobody reads stdin without -i" "0" "$(engine run --rm --network none "$IMAGE" wc -c < "$work/in")"
    expect "much output" "$(seq 1 400000 | sha256sum)" "$(engine run --rm --network none "$IMAGE" seq 1 400000 | sha256sum)"
    engine run --rm --network none "$IMAGE" sh -c 'seq 1 100000; seq 100001 200000 >&2' > "$work/stdout" 2> "$work/stderr"
    expect "stdout is stdout" "$(seq 1 100000 | sha256sum)" "$(sha256sum < "$work/stdout")"
    expect "stderr is stderr" "$(seq 100001 200000 | sha256sum)" "$(sha256sum < "$work/stderr")"
    prints "a process that stops to read is no fault" one engine run --rm -i --network none "$IMAGE" sh -c 'echo one; exec < /dev/null'
    expect "who leaves early ends it" 1 "$(engine run --rm --network none "$IMAGE" sh -c 'while echo 1 2> /dev/null; do :; done' | head -n 1)"
    for id in $(engine ps -aq); do engine rm -f "$id" > /dev/null; done
    "$peer_command" run --name signalled --network none "$IMAGE" sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' > "$work/signalled" &
    local client=$!
    wait_for 60 has_line "$work/signalled" ready
    kill -TERM "$client"
    wait "$client"
    code=$?
    expect "SIGTERM at the client is the container's" "5 5" "$code $(engine wait signalled)"
    engine rm -f signalled > /dev/null
}

terminals() {
    on_terminal 0 '' "-it: its code" "$peer_command" run --rm -it --network none "$IMAGE" sh -c "$sized" "30 100"
    expect "a terminal of the client's size" "/dev/pts/0 30 100" "$(tail -n 1 "$work/shown")"
    on_terminal 3 '@# @echo $((6 * 7))\nexit 3\n' "a shell: its code" "$peer_command" run --rm -it --network none "$IMAGE" sh
    expect "what is typed is done" 1 "$(grep -cx 42 "$work/shown")"
    on_terminal 9 '@ready@\x03' "^C is the container's" "$peer_command" run --rm -it --network none "$IMAGE" sh -c 'trap "exit 9" INT; echo ready; while :; do sleep 0.1; done'
    local talks='(while :; do echo tick; sleep 0.2; done) & echo ready; read -r line; echo "<$line>"; exit 6'
    on_terminal 0 '@ready@\x10\x11' "^P^Q detaches" "$peer_command" run -it --name left --network none "$IMAGE" sh -c "$talks"
    expect "and it goes on" running "$(state left)"
    on_terminal 6 '@tick@again\n' "attach again: its code" "$peer_command" attach left
    expect "what was typed then" 1 "$(grep -c '<again>' "$work/shown")"
    engine rm -f left > /dev/null
    prints "-t has one stream, of CR LF" "a.b" engine run --rm -t --network none "$IMAGE" sh -c 'printf a; printf .b >&2'
    engine run -d -t --name sized --network none "$IMAGE" sleep 1000 > /dev/null
    on_terminal 0 '' "exec -it: its code" "$peer_command" exec -it sized sh -c "$sized" "30 100"
    expect "exec -it: its size" "/dev/pts/1 30 100" "$(tail -n 1 "$work/shown")"
    script -qec "'$peer_command' exec -t sized sh -c 'tty; exit 8'" "$work/script.log" > "$work/out" < /dev/null
    expect "exec -t by script(1): its code" 8 $?
    expect "and terminal" 1 "$(grep -c '/dev/pts/' "$work/out")"
    engine rm -f sized > /dev/null
}

# attached_in_full NUMBER: a container that says all at once as soon as it begins.
attached_in_full() {
    engine create --name "full$1" --network none "$IMAGE" sh -c 'echo first; echo second >&2; seq 1 5000; exit 3' > /dev/null &&
        { engine start -a "full$1" > "$work/full$1.out" 2> "$work/full$1.err"; [ $? = 3 ]; } &&
        [ "$(cat "$work/full$1.err")" = second ] && cmp -s "$work/full$1.out" <(echo first; seq 1 5000) && engine rm "full$1" > /dev/null
}
attaching() {
    local number whole=0
    for number in $(seq 20); do attached_in_full "$number" && whole=$((whole + 1)); done
    expect "create and start -a: nothing is lost, of 20" 20 "$whole"
    whole=0
    for number in $(seq 20); do [ "$(engine run --rm --network none "$IMAGE" sh -c 'echo a; echo b')" = "$(printf 'a\nb')" ] && whole=$((whole + 1)); done
    expect "run: nothing is lost, of 20" 20 "$whole"
    engine create -i --name reader --network none "$IMAGE" sh -c 'read -r line; echo "<$line>"; exit 2' > /dev/null
    expect "start -ai" "<typed> 2" "$(echo typed | engine start -ai reader | paste -sd' ') $(engine wait reader)"
    engine start reader > /dev/null
    expect "attach to what runs" "<later>" "$(echo later | engine attach reader)"
    expect "its code" 2 "$(engine wait reader)"
    ends "attach to what has ended" 1 engine attach reader
    # Without an upgrade of the connection: two runs said a line each, in frames of 8 bytes and the line.
    expect "but its log is there" "200 $(printf '\001\0\0\0\0\0\0\010<typed>\n\001\0\0\0\0\0\0\010<later>\n' | sha256sum)" \
        "$(raw POST '/containers/reader/attach?logs=1&stdout=1&stderr=1') $(sha256sum < "$work/answer")"
    engine rm reader > /dev/null
    engine run -d --name talker --network none "$IMAGE" sh -c 'until [ -e /go ]; do echo tick; sleep 0.1; done; echo go; seq 1 10000; exit 4' > /dev/null
    local one two code
    "$peer_command" attach --no-stdin talker > "$work/one" &
    one=$!
    "$peer_command" attach --no-stdin talker > "$work/two" &
    two=$!
    wait_for 60 has_line "$work/one" tick && wait_for 60 has_line "$work/two" tick
    engine exec talker touch /go
    wait "$one"
    code=$?
    wait "$two"
    expect "two attached: their codes" "4 4" "$code $?"
    after() { sed '1,/^go$/d' "$1" | sha256sum; }
    expect "and each has all" "$(seq 1 10000 | sha256sum) $(seq 1 10000 | sha256sum)" "$(after "$work/one") $(after "$work/two")"
    engine rm talker > /dev/null
}

logging() {
    local second
    engine run -d --name talk --network none "$IMAGE" sh -c 'echo out1; echo err1 >&2; until [ -e /go ]; do sleep 0.1; done; echo out2; until [ -e /end ]; do sleep 0.1; done' > /dev/null
    wait_for 60 logged talk err1
    "$peer_command" logs -f talk > "$work/follow" 2> "$work/follow.err" &
    local client=$!
    wait_for 60 has_line "$work/follow" out1
    engine exec talk touch /go
    expect "-f shows what comes" yes "$(wait_for 60 has_line "$work/follow" out2 && echo yes)"
    expect "stdout" "out1 out2" "$(engine logs talk 2> /dev/null | paste -sd' ')"
    expect "stderr" err1 "$(engine logs talk 2>&1 > /dev/null)"
    expect "--tail 1" out2 "$(engine logs --tail 1 talk 2>&1)"
    expect "--tail 0" "" "$(engine logs --tail 0 talk 2>&1)"
    expect "--timestamps" 3 "$(engine logs -t talk 2>&1 | grep -cE '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{9}Z (out|err)[12]$')"
    second=$(engine logs -t --tail 1 talk 2> /dev/null | cut -d' ' -f1)
    expect "--since" out2 "$(engine logs --since "$second" talk 2>&1)"
    expect "--until" "out1" "$(engine logs --until "$(engine logs -t talk 2> /dev/null | head -n 1 | cut -d' ' -f1)" talk 2> /dev/null)"
    expect "--since of long ago" 3 "$(engine logs --since 1h talk 2>&1 | wc -l)"
    engine exec talk touch /end
    wait "$client"
    expect "-f ends with the container" "0 out1 out2 err1" "$? $(paste -sd' ' "$work/follow") $(cat "$work/follow.err")"
    ends "logs of nobody" 1 engine logs no-such-container
    engine rm talk > /dev/null
    engine run -d -t --name tty --network none "$IMAGE" echo on-a-terminal > /dev/null
    engine wait tty > /dev/null
    expect "of a terminal" "on-a-terminal" "$(engine logs tty | tr -d '\r')"
    engine rm tty > /dev/null
    engine run --name much --network none "$IMAGE" seq 1 200000 > /dev/null
    expect "of much" "$(seq 1 200000 | sha256sum)" "$(engine logs much | sha256sum)"
    expect "--tail of much" "$(seq 190001 200000 | sha256sum)" "$(engine logs --tail 10000 much | sha256sum)"
    engine rm much > /dev/null
    engine run -d --name silent --network none --log-driver none "$IMAGE" echo x > /dev/null
    engine wait silent > /dev/null
    ends "of none" 1 engine logs silent
    engine rm silent > /dev/null
}

executions() {
    engine run -d --name host --network none -e OF=container "$IMAGE" sleep 1000 > /dev/null
    prints "exec" here engine exec host echo here
    ends "its code" 3 engine exec host sh -c 'exit 3'
    expect "stdout and stderr" "out err" "$(engine exec host sh -c 'echo out; echo err >&2' 2> "$work/err") $(cat "$work/err")"
    head -c 3145728 /dev/urandom > "$work/in"
    expect "3 MB in and out" "$(sha256sum < "$work/in")" "$(engine exec -i host cat < "$work/in" | sha256sum)"
    expect "much output" "$(seq 1 400000 | sha256sum)" "$(engine exec host seq 1 400000 | sha256sum)"
    prints "--user, --workdir, --env" "1000 /tmp b container" engine exec -u 1000 -w /tmp -e A=b host sh -c 'echo $(id -u) $(pwd) $A $OF'
    ends "-d" 0 engine exec -d host sh -c 'echo made > /made'
    expect "which is done" made "$(wait_for 60 engine exec host test -s /made; engine exec host cat /made)"
    ends "an unknown command" 127 engine exec host no-such-command
    expect "which is named" 1 "$(grep -c no-such-command "$work/out")"
    ends "a directory" 126 engine exec host /etc
    ends "a workdir that is not there" 126 engine exec -w /none host true
    ends "a user that is not there" 126 engine exec -u nobody-knows host true
    expect "--privileged" "$(sed -n 's/^CapEff:.//p' /proc/self/status)" "$(engine exec --privileged host sed -n 's/^CapEff:.//p' /proc/self/status)"
    ends "the container goes on" 0 engine exec host true
    engine stop -t 0 host > /dev/null
    ends "exec in what has ended" 1 engine exec host true
    ends "exec in what is not there" 1 engine exec no-such-container true
    engine start host > /dev/null
    engine pause host > /dev/null
    ends "exec in what is paused" 1 engine exec host true
    engine unpause host > /dev/null
    "$peer_command" exec host sleep 1000 &
    local client=$!
    wait_for 60 sh -c "'$peer_command' top host | grep -c 'sleep 1000' | grep -qx 2"
    engine kill host > /dev/null
    wait "$client"
    expect "an exec ends with its container" 137 $?
    engine rm host > /dev/null
}

copying() {
    mkdir -p "$work/tree/sub" && echo content > "$work/tree/file" && ln -sf file "$work/tree/link" && echo deep > "$work/tree/sub/deep" && chmod 640 "$work/tree/sub/deep"
    head -c 3145728 /dev/urandom > "$work/big"
    engine run -d --name box --network none "$IMAGE" sleep 1000 > /dev/null
    ends "cp of a file in" 0 engine cp "$work/big" box:/root/renamed
    expect "is that file" "$(sha256sum < "$work/big")" "$(engine exec box cat /root/renamed | sha256sum)"
    ends "cp of a directory in" 0 engine cp "$work/tree" box:/root/
    expect "its files" "content file deep 640" "$(engine exec box sh -c 'cd /root/tree; echo $(cat link) $(readlink link) $(cat sub/deep) $(stat -c %a sub/deep)')"
    ends "cp of what is in a directory" 0 engine cp "$work/tree/." box:/tmp
    prints "which is in the other then" deep engine exec box cat /tmp/sub/deep
    ends "cp of a file out" 0 engine cp box:/root/renamed "$work/back"
    expect "is that file, too" 0 "$(cmp "$work/big" "$work/back"; echo $?)"
    ends "cp of a directory out" 0 engine cp box:/root/tree "$work/treeback"
    expect "is that directory" 0 "$(diff -r --no-dereference "$work/tree" "$work/treeback" > "$work/diff"; echo $?)"
    expect "cp to -" "tree/ tree/file tree/link tree/sub/ tree/sub/deep" "$(engine cp box:/root/tree - | tar -t | sort | paste -sd' ')"
    tar -C "$work/tree" -c . | engine cp - box:/home
    expect "cp from -" "0 deep" "$? $(engine exec box cat /home/sub/deep)"
    ends "cp of what is not there" 1 engine cp box:/none "$work/"
    ends "cp to where nothing is" 1 engine cp "$work/big" box:/none/where/
    ends "cp of -L" 0 engine cp -L box:/root/tree/link "$work/followed"
    expect "follows" "content regular file" "$(cat "$work/followed") $(stat -c %F "$work/followed")"
    expect "diff: added" "A /root/renamed" "$(engine diff box | grep -x 'A /root/renamed')"
    expect "diff: changed" "C /root" "$(engine diff box | grep -x 'C /root')"
    engine exec box rm /bin/probe
    expect "diff: deleted" "D /bin/probe" "$(engine diff box | grep -x 'D /bin/probe')"
    engine stop -t 0 box > /dev/null
    ends "cp out of what has ended" 0 engine cp box:/root/tree/file "$work/ended"
    expect "is there" content "$(cat "$work/ended")"
    ends "cp into what has ended" 0 engine cp "$work/ended" box:/ended
    engine start box > /dev/null
    prints "is there" content engine exec box cat /ended
    engine rm -f box > /dev/null
}

states() {
    local begun
    engine create --name one --network none --label shape=round "$IMAGE" sh -c 'trap "exit 0" TERM; trap "echo usr1" USR1; echo ready; while :; do sleep 0.1; done' > /dev/null
    expect "create" created "$(state one)"
    ends "start" 0 engine start one
    expect "runs" running "$(state one)"
    wait_for 60 logged one ready
    ends "kill -s USR1" 0 engine kill -s USR1 one
    expect "arrives" yes "$(wait_for 60 logged one usr1 && echo yes)"
    ends "pause" 0 engine pause one
    expect "is paused" "paused true" "$(engine inspect -f '{{.State.Status}} {{.State.Paused}}' one)"
    ends "pause again" 1 engine pause one
    expect "ps says so" 1 "$(engine ps --filter name=one --format '{{.Status}}' | grep -c '(Paused)')"
    ends "unpause" 0 engine unpause one
    expect "runs again" running "$(state one)"
    ends "rename" 0 engine rename one other
    expect "has that name only" "/other 1" "$(engine inspect -f '{{.Name}}' other) $(engine inspect one > /dev/null 2>&1; echo $?)"
    engine create --name taken --network none "$IMAGE" true > /dev/null
    ends "rename to a name in use" 1 engine rename other taken
    engine rm taken > /dev/null
    ends "update" 0 engine update --memory 64m --memory-swap 64m --restart unless-stopped other
    expect "inspect tells" "67108864 unless-stopped" "$(engine inspect -f '{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}' other)"
    engine update --restart no other > /dev/null
    begun=$(engine inspect -f '{{.State.StartedAt}}' other)
    ends "restart" 0 engine restart other
    expect "it is another run" yes "$([ "$(engine inspect -f '{{.State.StartedAt}}' other)" != "$begun" ] && is other running && echo yes)"
    wait_for 60 sh -c "[ \"\$('$peer_command' logs other | grep -c ready)\" = 2 ]"
    ends "stop" 0 engine stop other
    expect "which it may decide" "exited 0" "$(engine inspect -f '{{.State.Status}} {{.State.ExitCode}}' other)"
    ends "stop again is no fault" 0 engine stop other
    ends "kill of it is one" 1 engine kill other
    expect "ps" "" "$(engine ps -q)"
    expect "ps -a" "other Exited" "$(engine ps -a --format '{{.Names}} {{.Status}}' | cut -d' ' -f1,2)"
    expect "ps --filter" "other  " "$(engine ps -a --filter label=shape=round --format '{{.Names}}') $(engine ps -aq --filter label=shape=square) $(engine ps -aq --filter status=running)"
    ends "rm" 0 engine rm other
    ends "rm again" 1 engine rm other
    engine run -d --name deaf --network none "$IMAGE" sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' > /dev/null
    wait_for 60 logged deaf ready
    ends "rm of what runs" 1 engine rm deaf
    ends "stop -t 1 of one that will not" 0 engine stop -t 1 deaf
    expect "is a kill" 137 "$(engine inspect -f '{{.State.ExitCode}}' deaf)"
    engine rm deaf > /dev/null
}

live_facts() {
    engine run -d --name busy --network none --memory 64m "$IMAGE" sh -c 'sleep 1000 & wait' > /dev/null
    wait_for 60 sh -c "'$peer_command' top busy | grep -q 'sleep 1000'"
    expect "top" "1 2" "$(engine top busy | grep -cE 'PID.*(CMD|COMMAND)') $(engine top busy | grep -c 'sleep 1000')"
    expect "top with ps's options" 1 "$(engine top busy -o pid,comm | grep -cE '^[0-9]+ +sleep$')"
    expect "stats" "busy 2 64MiB" "$(engine stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' busy | sed 's| [^ ]* / | |')"
    expect "stats of all" 1 "$(engine stats --no-stream --format '{{.Name}}' | grep -cx busy)"
    ends "stats of nobody" 1 engine stats --no-stream no-such-container
    engine rm -f busy > /dev/null
}

waiting_and_events() {
    local begin
    begin=$(date +%s.%N)
    engine run -d --name dies --network none --label of=events "$IMAGE" sh -c 'until [ -e /go ]; do sleep 0.1; done; exit 5' > /dev/null
    "$peer_command" events --since "$begin" --filter container=dies --format '{{.Action}}' > "$work/events" 2>&1 &
    local client=$!
    "$peer_command" wait dies > "$work/waited" &
    local waiter=$!
    wait_for 60 has_line "$work/events" start
    engine exec dies touch /go
    wait "$waiter"
    expect "wait" "0 5" "$? $(cat "$work/waited")"
    engine rm dies > /dev/null
    expect "events as they come" yes "$(wait_for 60 has_line "$work/events" destroy && echo yes)"
    kill "$client"
    wait "$client" 2> /dev/null
    expect "in their order" "create start die destroy" "$(grep -xE 'create|start|die|destroy' "$work/events" | paste -sd' ')"
    past() { engine events --since "$begin" --until "$(date +%s.%N)" "$@"; }
    expect "--filter event" "die 5" "$(past --filter container=dies --filter event=die --format '{{.Action}} {{.Actor.Attributes.exitCode}}')"
    expect "--filter type" "" "$(past --filter type=volume --format '{{.Action}}')"
    expect "--filter label" 4 "$(past --filter label=of=events --format '{{.Action}}' | grep -cxE 'create|start|die|destroy')"
    expect "the words" 1 "$(past --filter event=create | grep -cE '^20[^ ]+ container create [0-9a-f]{64} \(.*image=busybox.*name=dies.*\)$')"
    ends "wait for nobody" 1 engine wait no-such-container
}

many() {
    local number clients=() whole=0
    for number in $(seq 12); do
        "$peer_command" run --rm --network none "$IMAGE" sh -c "seq 1 1000; echo $number" > "$work/many$number" 2>&1 & clients+=($!)
    done
    wait "${clients[@]}"
    for number in $(seq 12); do cmp -s "$work/many$number" <(seq 1 1000; echo "$number") && whole=$((whole + 1)); done
    expect "12 at once" 12 "$whole"
    expect "all gone" "" "$(engine ps -aq)"
}

# Clients that leave leave nothing in the server.
leaving() {
    local number clients=() connections
    # Of Unix sockets: engines keep some for a while, which a few requests at once make.
    connections() { ls -l "/proc/$server/fd" | grep -c socket:; }
    settled() { [ "$(connections)" -le "$before_them" ]; }
    # The client is the child of timeout(1).
    leave() { pkill -9 -P "$(IFS=,; echo "${clients[*]}")"; wait "${clients[@]}" 2> /dev/null; }
    engine run -d --name watched --network none "$IMAGE" sh -c 'while :; do echo tick; sleep 0.1; done' > /dev/null
    local before_them left
    before_them=$(connections)
    for number in $(seq 5); do
        "$peer_command" logs -f watched > "$work/leaver-log$number" 2> /dev/null & clients+=($!)
        "$peer_command" attach --no-stdin --sig-proxy=false watched > "$work/leaver-attach$number" 2> /dev/null & clients+=($!)
        "$peer_command" stats watched > "$work/leaver-stats$number" 2> /dev/null & clients+=($!)
        "$peer_command" events --since 1 > "$work/leaver-events$number" 2> /dev/null & clients+=($!)
    done
    for left in "$work"/leaver-{log,attach,stats,events}{1..5}; do wait_for 60 test -s "$left" || fail "${left##*/} is served"; done
    expect "20 clients are connected" yes "$([ "$(connections)" -ge $((before_them + 20)) ] && echo yes)"
    leave
    expect "killed, none is" "$before_them or less" "$(wait_for 60 settled && echo "$before_them or less" || connections)"
    clients=()
    for number in $(seq 5); do
        "$peer_command" exec watched sh -c 'echo tick; exec sleep 1000' > "$work/leaver-exec$number" 2> /dev/null & clients+=($!)
    done
    for left in "$work"/leaver-exec{1..5}; do wait_for 60 test -s "$left" || fail "${left##*/} is served"; done
    leave
    expect "what was executed goes on without its client" 5 "$(engine top watched | grep -c 'sleep 1000')"
    expect "the container goes on" running "$(state watched)"
    engine rm -f watched > /dev/null
    expect "until its container ends" "$before_them or less" "$(wait_for 60 settled && echo "$before_them or less" || connections)"
}

health() {
    printf 'FROM %s\nHEALTHCHECK --interval=1s --retries=1 CMD ["test", "-e", "/tmp/fine"]\nCMD ["sleep", "1000"]\n' "$IMAGE" | engine build -q -t checked - > /dev/null 2>&1
    engine run -d --name checked --network none checked > /dev/null
    healthy() { [ "$(engine inspect -f '{{.State.Health.Status}}' "$1")" = "$2" ]; }
    wait_for 60 healthy checked unhealthy
    expect "a check of the image fails" unhealthy "$(engine inspect -f '{{.State.Health.Status}}' checked)"
    expect "ps says so" 1 "$(engine ps --format '{{.Status}}' | grep -c '(unhealthy)')"
    engine exec checked touch /tmp/fine
    wait_for 60 healthy checked healthy
    expect "and succeeds" "healthy 0" "$(engine inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' checked)"
    expect "its log" yes "$([ "$(engine inspect -f '{{len .State.Health.Log}}' checked)" -ge 2 ] && echo yes)"
    expect "ps --filter health" checked "$(engine ps --filter health=healthy --format '{{.Names}}')"
    engine rm -f checked > /dev/null
    engine run -d --name own --network none --health-cmd 'true' --health-interval 1s "$IMAGE" sleep 1000 > /dev/null
    wait_for 60 healthy own healthy
    expect "--health-cmd" 'healthy [CMD-SHELL true]' "$(engine inspect -f '{{.State.Health.Status}} {{.Config.Healthcheck.Test}}' own)"
    engine rm -f own > /dev/null
    engine run -d --name unchecked --network none --no-healthcheck checked > /dev/null
    expect "--no-healthcheck" "" "$(engine inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{end}}' unchecked | grep -v none)"
    engine rm -f unchecked > /dev/null
    engine rmi checked > /dev/null
}

volumes() {
    prints "volume create" kept engine volume create --label of=test kept
    ends "is kept" 0 engine run --rm --network none -v kept:/d "$IMAGE" sh -c 'echo data > /d/file'
    prints "for the next" data engine run --rm --network none -v kept:/d:ro "$IMAGE" cat /d/file
    expect "ls" "local kept" "$(engine volume ls --format '{{.Driver}} {{.Name}}')"
    expect "ls --filter" "kept  kept" "$(engine volume ls -q --filter label=of=test) $(engine volume ls -q --filter name=other) $(engine volume ls -q --filter dangling=true)"
    expect "inspect" "kept local test" "$(engine volume inspect -f '{{.Name}} {{.Driver}} {{index .Labels "of"}}' kept)"
    engine run -d --name user --network none --mount type=volume,source=kept,target=/d -v /anonymous "$IMAGE" sleep 1000 > /dev/null
    expect "the mounts of a container" "volume kept /d|volume 64 /anonymous" "$(engine inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}}{{println}}{{end}}' user | grep . | sort -k 3r | sed -E 's/[0-9a-f]{64}/64/' | paste -sd'|')"
    ends "rm of one in use" 1 engine volume rm kept
    engine rm -f -v user > /dev/null
    expect "rm -v takes the anonymous one alone" kept "$(engine volume ls -q)"
    ends "rm" 0 engine volume rm kept
    ends "rm again" 1 engine volume rm kept
    ends "rm -f again" 0 engine volume rm -f kept
    ends "inspect of none" 1 engine volume inspect kept
}

networks() {
    engine network create --subnet 172.31.240.0/24 --gateway 172.31.240.1 --label of=test inner > "$work/out"
    expect "network create prints the id" 1 "$(grep -cE '^[0-9a-f]{64}$' "$work/out")"
    ends "the name again" 1 engine network create inner
    expect "ls" "bridge bridge|host host|inner bridge|none null" "$(engine network ls --format '{{.Name}} {{.Driver}}' | grep -v ' cni$' | sort | paste -sd'|')"
    expect "ls --filter" "inner inner " "$(engine network ls --filter label=of=test --format '{{.Name}}') $(engine network ls --filter type=custom --filter driver=bridge --format '{{.Name}}') $(engine network ls -q --filter name=other)"
    expect "inspect" "inner 172.31.240.0/24 172.31.240.1" "$(engine network inspect -f '{{.Name}} {{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}}' inner)"
    engine run -d --name web --network inner --network-alias site --ip 172.31.240.77 "$IMAGE" sh -c 'mkdir /www && echo served > /www/index.html && httpd -f -h /www -p 80' > /dev/null
    expect "--ip" 172.31.240.77 "$(engine inspect -f '{{.NetworkSettings.Networks.inner.IPAddress}}' web)"
    # NETWORK NAME: the last line of the page. (wget of a static busybox needs what a static C library does not have.)
    fetch() { printf 'GET / HTTP/1.0\r\n\r\n' | engine run --rm -i --network "$1" "$IMAGE" timeout 10 nc "$2" 80 2>&1 | tail -n 1; }
    serves() { [ "$(fetch "$@")" = served ]; }
    expect "by name" yes "$(wait_for 60 serves inner web && echo yes)"
    expect "by alias" served "$(fetch inner site)"
    expect "the network knows it" web "$(engine network inspect -f '{{range .Containers}}{{.Name}}{{end}}' inner)"
    ends "rm of one in use" 1 engine network rm inner
    engine network create outer > /dev/null
    ends "connect" 0 engine network connect --alias late outer web
    expect "both are shown" "inner outer " "$(engine inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' web)"
    expect "by its alias there" served "$(fetch outer late)"
    ends "connect again" 1 engine network connect outer web
    ends "disconnect" 0 engine network disconnect outer web
    expect "one is shown" "inner " "$(engine inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' web)"
    expect "and it is not there any more" "nc: bad address 'late'" "$(fetch outer late)"
    expect "--network container:" served "$(fetch container:web 127.0.0.1)"
    engine rm -f web > /dev/null
    engine run -d --name published -p 127.0.0.1:8123:80 -p 127.0.0.1::81/udp "$IMAGE" sh -c 'mkdir /www && echo published > /www/index.html && httpd -f -h /www -p 80' > /dev/null
    wait_for 60 curl -sf http://127.0.0.1:8123/
    expect "-p" published "$(curl -s http://127.0.0.1:8123/)"
    expect "port" 127.0.0.1:8123 "$(engine port published 80)"
    expect "all ports" "80/tcp -> 127.0.0.1:8123|81/udp -> 127.0.0.1:N" "$(engine port published | sort | sed -E '/udp/s/[0-9]+$/N/' | paste -sd'|')"
    ends "a port that is not" 1 engine port published 82
    expect "ps shows them" 1 "$(engine ps --format '{{.Ports}}' | grep -c '127.0.0.1:8123->80/tcp')"
    ends "a port in use" 125 engine run --rm -p 127.0.0.1:8123:80 "$IMAGE" true
    for id in $(engine ps -aq); do engine rm -f "$id" > /dev/null; done
    ends "rm of both" 0 engine network rm inner outer
    ends "rm again" 1 engine network rm inner
    ends "rm of bridge" 1 engine network rm bridge
}
