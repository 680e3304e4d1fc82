#!/bin/bash
# Three engines on one host: containers of rcon, of Docker's daemon and of podman (netavark) keep working while each of the others
# starts, stops and restarts; what the others have of rules is byte for byte as it was after all that rcon does; ranges do not meet.
# "outside" is a machine behind the host's uplink.
. "$(dirname "$0")/lib.sh"
podman_files
socket=unix://$work/docker.sock
docker() { command timeout --foreground 60 docker -H "$socket" "$@"; }
podman() {
    local verb=$1 parent_flag=()
    shift
    [ "$verb" != run ] || parent_flag=(--cgroup-parent "/$parent")
    command timeout --foreground 60 podman --runtime runc --tmpdir /run/peer-libpod "$verb" "${parent_flag[@]}" "$@"
}
docker_bip=
# Neither shell nor sleep hears SIGTERM as the first process.
always=(--restart always --stop-signal KILL)
start_dockerd() {
    rm -f "$work/docker.pid"
    command dockerd --data-root "$work/docker-data" --exec-root /run/docker --pidfile "$work/docker.pid" -H "$socket" --cgroup-parent "/$parent" \
        ${docker_bip:+--bip "$docker_bip"} > "$work/dockerd.log" 2>&1 &
    daemon=$!
    wait_for 120 docker version || { fail "dockerd starts" "$(tail -n 5 "$work/dockerd.log" | tr '\n' ' ')"; finish; exit 1; }
}
stop_dockerd() { kill "$daemon" 2> /dev/null; wait "$daemon" 2> /dev/null; }
forward_policy() { iptables -S FORWARD | sed -n 's/^-P FORWARD //p'; }
# What README tells the administrator of a host whose Docker drops what is forwarded.
allow_ours() { for side in -i -o; do iptables -I DOCKER-USER "$side" rc+ -j ACCEPT; done; }
# Nor does it let in what podman publishes.
allow_podman() { iptables -I DOCKER-USER -o podman+ -j ACCEPT; }

other_host; outside=$other
ip link add up0 type veth peer name eth0 netns "$outside"
ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up
at() { nsenter -t "$outside" -n "$@"; }
at ip link set lo up; at ip addr add 198.51.100.2/24 dev eth0; at ip link set eth0 up
ip route add default via 198.51.100.2

declare -A port=([rcon]=8080 [own]=8083 [docker]=8081 [podman]=8082)
fetch() { printf 'GET /i HTTP/1.0\r\n\r\n' | "${@:3}" timeout 20 busybox nc "$1" "$2" 2> /dev/null | tail -n 1; }
serve() { echo "mkdir -p /www; echo $1 > /www/i; exec httpd -f -h /www"; }
# The other container of the same network, and the machine outside.
reaches() { # ENGINE CONTAINER ADDRESS
    "$1" exec "$2" sh -c "printf 'GET /i HTTP/1.0\r\n\r\n' | timeout 20 nc $3 80 | tail -n 1; ping -c 1 -W 20 198.51.100.2 > /dev/null && echo out" 2> /dev/null | tr '\n' ' '
}
declare -A address
works() { # ENGINE: its published port from outside, from here and by loopback, its network within and out
    local name=web-$1 engine=$1
    [ "$1" != own ] || engine=rcon
    # It may have been started a moment ago.
    wait_for 20 "$engine" exec "web-$1" wget -q -O /dev/null http://127.0.0.1/i
    echo "$(fetch 198.51.100.1 "${port[$1]}" at) $(fetch 198.51.100.1 "${port[$1]}") $(fetch 127.0.0.1 "${port[$1]}") $(reaches "$engine" "peer-$1" "${address[$1]}")"
}
all_work() { # WHEN
    local each
    for each in ${2:-rcon own docker podman}; do expect "$each works: $1" "$each $each $each $each out " "$(works "$each")"; done
}
# steady NAMES WHAT COMMAND...: meanwhile, every request from outside to the published ports of NAMES is answered.
steady() {
    local name probes=()
    touch "$work/probing"; : > "$work/missed"; : > "$work/asked"
    for name in $1; do
        while [ -e "$work/probing" ]; do
            [ "$(fetch 198.51.100.1 "${port[$name]}" at)" = "$name" ] || echo "$name" >> "$work/missed"
            echo "$name" >> "$work/asked"
            sleep 0.05
        done &
        probes+=($!)
    done
    "${@:3}" > "$work/steady" 2>&1 || fail "$2" "$(tail -n 3 "$work/steady" | tr '\n' ' ')"
    rm "$work/probing"
    wait "${probes[@]}"
    expect "$2: $(wc -l < "$work/asked") requests to $1, none unanswered" "" "$(sort "$work/missed" | uniq -c | tr '\n' ' ')"
}
ours() { nft -s list ruleset 2> /dev/null | awk '/^table ip6? rcon / { keep = 1 } keep; /^}/ { keep = 0 }'; }
others() {
    nft -s list ruleset 2> /dev/null | awk '/^table / { keep = !($2 ~ /^ip6?$/ && $3 == "rcon") } keep'
    iptables-save 2> /dev/null | grep -v '^[#:]'; ip6tables-save 2> /dev/null | grep -v '^[#:]'
    sysctl -a -r '^net\.ipv[46]\.conf\.(all|default|docker0|podman[0-9]*|br-[0-9a-f]*)\.' 2> /dev/null
}
overlaps() { # bridges whose ranges meet
    ip -j addr show type bridge | python3 -c 'import itertools, ipaddress, json, sys
found = [(link["ifname"], ipaddress.ip_network((a["local"], a["prefixlen"]), strict=False)) for link in json.load(sys.stdin) for a in link["addr_info"] if a["scope"] == "global"]
print(len(found), *[f"{a[0]} {b[0]}" for a, b in itertools.combinations(found, 2) if a[1].version == b[1].version and a[1].overlaps(b[1])])'
}
range() { rcon network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$1"; }
field() { rcon inspect -f "$2" "$1"; }

rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
podman load -q -i "$FIXTURES/busybox.tar" > /dev/null
podman_image=$(podman images --format '{{.Repository}}:{{.Tag}}')
rcon_up() {
    rcon run -d --name web-rcon -p "${port[rcon]}:80" busybox sh -c "$(serve rcon)" > /dev/null
    rcon run -d --name peer-rcon busybox sleep 1000 > /dev/null
    rcon network create own > /dev/null
    rcon run -d --name web-own --network own -p "${port[own]}:80" busybox sh -c "$(serve own)" > /dev/null
    rcon run -d --name peer-own --network own busybox sleep 1000 > /dev/null
    address[rcon]=$(field web-rcon '{{.NetworkSettings.IPAddress}}') address[own]=web-own
}
docker_up() {
    docker load -q -i "$FIXTURES/busybox.tar" > /dev/null
    docker network create theirs > /dev/null
    docker run -d --name web-docker --network theirs "${always[@]}" -p "${port[docker]}:80" busybox sh -c "$(serve docker)" > /dev/null
    docker run -d --name peer-docker --network theirs "${always[@]}" busybox sleep 1000 > /dev/null
    docker run -d --name bridged "${always[@]}" busybox sleep 1000 > /dev/null
    address[docker]=web-docker
}
podman_up() {
    podman network create theirs > /dev/null
    podman run -d --name web-podman --network theirs -p "${port[podman]}:80" "$podman_image" sh -c "$(serve podman)" > /dev/null
    podman run -d --name peer-podman --network theirs "$podman_image" sleep 1000 > /dev/null
    podman run -d --name bridged "$podman_image" sleep 1000 > /dev/null
    address[podman]=$(podman inspect -f '{{.NetworkSettings.Networks.theirs.IPAddress}}' web-podman)
}
docker_answers() { [ "$(fetch 198.51.100.1 "${port[docker]}" at)" = docker ]; }
restart_docker() { stop_dockerd; start_dockerd; wait_for 60 docker_answers; }
kill_docker() { kill -9 "$daemon"; wait "$daemon" 2> /dev/null; start_dockerd; wait_for 60 docker_answers; }
restart_podman() { podman restart -t 0 web-podman > /dev/null && podman run --rm -p 8090:80 "$podman_image" true && podman network create passing > /dev/null && podman network rm passing > /dev/null && podman network reload -a > /dev/null; }
podman_again() { podman stop -t 0 web-podman > /dev/null && podman start web-podman > /dev/null; }
# Everything that rcon does to a network, at least once.
rcon_busy() {
    rcon network create --subnet 10.77.0.0/24 busy && rcon network create --internal closed || return 1
    rcon run -d --name visitor --network busy -p 8091:80 -p 127.0.0.1:8092:80/udp busybox sleep 1000 || return 1
    rcon network connect own visitor && rcon network disconnect own visitor && rcon network connect closed visitor || return 1
    rcon stop -t 0 visitor && rcon start visitor && rcon restart -t 0 visitor && rcon network reload || return 1
    rcon run --rm -P busybox true || return 1
    local monitor
    monitor=$(ps -o ppid= -p "$(field visitor '{{.State.Pid}}')" | tr -d ' ')
    kill -9 "$monitor"
    await_death "$monitor"
    rcon rm -f visitor && rcon network rm busy closed && rcon network prune -f && rcon network reload || return 1
    rcon system check -q --repair || [ $? = 1 ]
}
rcon_again() { rcon restart -t 0 web-rcon web-own && rcon run --rm -p 8093:80 busybox true; }

echo " -- rcon was there first"
rcon_up
first_range=$(range bridge)
start_dockerd; docker_up; podman_up
[ "$(forward_policy)" != DROP ] || { allow_podman; allow_ours; }
all_work "rcon first, then Docker, then podman"
expect "no ranges of bridges meet" 7 "$(overlaps)"
expect "a range that no device has yet is nobody's choice either" apart "$(rcon network create spare > /dev/null; docker network create spare > /dev/null; podman network create spare > /dev/null
    python3 -c 'import ipaddress, sys; a, *others = map(ipaddress.ip_network, sys.argv[1:]); print("meet" if any(a.overlaps(b) for b in others) else "apart")' \
        "$(range spare)" "$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' spare)" "$(podman network inspect spare | jq -r '.[0].subnets[0].subnet')")"
for engine in rcon docker podman; do $engine network rm spare > /dev/null; done
rcon rm -f web-rcon peer-rcon web-own peer-own > /dev/null; rcon network rm own > /dev/null

echo " -- Docker was there first, on a host that forwarded nothing"
# As after a reboot, with a bridge of Docker's that is given what was the default network's range.
docker rm -f web-docker peer-docker bridged > /dev/null; docker network rm theirs > /dev/null
podman rm -f -a -t 0 > /dev/null; podman network rm theirs > /dev/null
stop_dockerd
nft flush ruleset; ip link del docker0; ip link del rcon0; sysctl -qw net.ipv4.ip_forward=0
docker_bip=${first_range%.0/20}.1/20
start_dockerd; docker_up; podman_up; allow_podman
before=$(others)
rcon_up
expect "the default network gives way to a bridge that has its range" 1 "$(ip -o -4 addr show docker0 | grep -c "$docker_bip")"
expect "no ranges of bridges meet" 7 "$(overlaps)"
expect "rules of others are as they were" "" "$(diff <(echo "$before") <(others))"
expect "Docker drops what it does not know" DROP "$(forward_policy)"
expect "which keeps outside what rcon publishes" "" "$(fetch 198.51.100.1 "${port[rcon]}" at)"
expect "and system check says by what" 1 "$(rcon system check 2>&1 | grep -c 'chain FORWARD of table ip filter')"
allow_ours
all_work "once the administrator lets its bridges pass"

echo " -- rcon at work, the others do not notice"
before=$(others)
steady "docker podman" "rcon makes, changes and removes" rcon_busy
expect "rules and settings of others are byte for byte as they were" "" "$(diff <(echo "$before") <(others))"
steady "docker podman" "rcon restarts containers" rcon_again
expect "still byte for byte" "" "$(diff <(echo "$before") <(others))"
all_work "after all that rcon did"

echo " -- the others at work, rcon does not notice"
before=$(ours)
steady "rcon own podman" "dockerd stops" stop_dockerd
all_work "without dockerd" "rcon own podman"
expect "rcon's tables are as they were" "" "$(diff <(echo "$before") <(ours))"
steady "rcon own podman" "dockerd starts" start_dockerd
wait_for 60 docker_answers
steady "rcon own podman" "dockerd restarts" restart_docker
steady "rcon own podman" "dockerd is killed and starts" kill_docker
steady "rcon own docker" "podman restarts, makes and removes" restart_podman
steady "rcon own docker" "podman stops and starts" podman_again
expect "rcon's tables are as they were after all that" "" "$(diff <(echo "$before") <(ours))"
address[podman]=$(podman inspect -f '{{.NetworkSettings.Networks.theirs.IPAddress}}' web-podman)
all_work "after all that the others did"

echo " -- the firewall is loaded anew"
pids=$(rcon ps -q | sort | xargs -n 1 "$RCON" --root "$work/data" --run-root "$work/run" inspect -f '{{.State.Pid}}')
nft flush ruleset
expect "without rules the ports are closed" "" "$(fetch 198.51.100.1 "${port[rcon]}" at)"
expect "reload names the networks that it looked at" "bridge own" "$(rcon network reload | sort | tr '\n' ' ' | sed 's/ $//')"
expect "rcon's tables are made anew as they were" "" "$(diff <(echo "$before") <(ours))"
all_work "after a flush and rcon network reload" "rcon own"
expect "nobody was restarted" "$pids" "$(rcon ps -q | sort | xargs -n 1 "$RCON" --root "$work/data" --run-root "$work/run" inspect -f '{{.State.Pid}}')"
podman network reload -a > /dev/null
restart_docker
[ "$(forward_policy)" != DROP ] || { allow_podman; allow_ours; }
all_work "and after podman's and Docker's own reload"

for name in web-docker peer-docker bridged; do docker rm -f "$name" > /dev/null; done
docker network rm theirs > /dev/null
podman rm -f -a -t 0 > /dev/null
stop_dockerd
for id in $(rcon ps -aq); do rcon rm -f "$id" > /dev/null; done
expect "nothing of rcon's network is left" "own" "$(rcon network rm own)"
expect "no link or bridge of a network either" "rcon0" "$(ip -o link | sed -n 's/^[0-9]*: \(rc[^:@]*\).*/\1/p' | tr '\n' ' ' | sed 's/ $//')"
umount -R -l "$work/docker-data" "$work/podman/overlay" 2> /dev/null
kill "$outside"
finish
