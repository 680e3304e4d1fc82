#!/bin/bash
# Published ports and NAT, with a second network namespace as the outside world.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
nft add table ip other && nft add chain ip other c '{ type filter hook forward priority 0; policy accept; }' && nft add rule ip other c ip daddr 203.0.113.9 counter drop
others() { nft list table ip other; }
others_before=$(others)
# outside <-veth-> this host
other_host; outside=$other
ip link add up0 type veth peer name eth0 netns "$outside"
ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up
at() { nsenter -t "$outside" -n "$@"; }
at ip link set lo up; at ip addr add 198.51.100.2/24 dev eth0; at ip link set eth0 up

rcon run -d --name web -p 8080:80 -p 127.0.0.1:8081:80 -p 5353:53/udp busybox sh -c '
    mkdir -p /www; echo hello > /www/index.html; httpd -h /www -p 80
    exec probe udp-echo 53' > /dev/null
# One small HTTP client for both sides: busybox's nc.
# Who should answer is given time, however busy the machine is; what must not come is waited for as long as `patience` says.
fetch() { printf 'GET / HTTP/1.0\r\n\r\n' | timeout "${patience:-20}" busybox nc "$1" "$2" | tail -n 1; }
at_fetch() { printf 'GET / HTTP/1.0\r\n\r\n' | at timeout "${patience:-20}" busybox nc "$1" "$2" | tail -n 1; }
answers() { [ "$(fetch 127.0.0.1 8080)" = hello ]; }
wait_for 20 answers
expect "published port from the host's loopback" hello "$(fetch 127.0.0.1 8080)"
expect "from the host's own address" hello "$(fetch 198.51.100.1 8080)"
expect "from outside" hello "$(at_fetch 198.51.100.1 8080)"
expect "a loopback-only port from loopback" hello "$(fetch 127.0.0.1 8081)"
expect "and not from outside" "" "$(patience=3 at_fetch 198.51.100.1 8081 2> /dev/null)"
expect "from another container through the host's address" hello "$(rcon run --rm busybox sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | timeout 20 nc 198.51.100.1 8080 | tail -n 1')"
expect "hairpin: from itself through the host's address" hello "$(rcon exec web sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | timeout 20 nc 198.51.100.1 8080 | tail -n 1')"
echo_udp() { # SECONDS
    at timeout 20 bash -c 'exec 3<> /dev/udp/198.51.100.1/5353; echo ping >&3; timeout "$0" dd bs=100 count=1 status=none <&3' "$1" 2> /dev/null
}
# Its server may begin after the other one.
echoes() { [ "$(echo_udp 2)" = ping ]; }
wait_for 20 echoes
expect "UDP" ping "$(echo_udp 15)"
address=$(rcon inspect -f '{{.NetworkSettings.IPAddress}}' web)
at ip route add default via 198.51.100.1
expect "an unpublished port is unreachable from outside, also on the container's address" "" "$(patience=3 at_fetch $address 80 2> /dev/null)"
at busybox httpd -p 8000 -h /proc/sys/kernel
expect "containers reach the outside" "$(cat /proc/sys/kernel/ostype)" "$(rcon run --rm busybox sh -c 'printf "GET /ostype HTTP/1.0\r\n\r\n" | timeout 20 nc 198.51.100.2 8000 | tail -n 1')"
expect "a taken port is refused" 125 "$(rcon run -d -p 8080:80 busybox true > /dev/null 2> "$work/taken"; echo $?)"
expect "by name" 1 "$(grep -c 8080 "$work/taken")"
busybox nc -l -p 8099 < /dev/zero > /dev/null & holder=$!
wait_for 20 grep -q ':1FA3 ' /proc/net/tcp
expect "a port of another program is refused" 125 "$(rcon run -d -p 8099:80 busybox true > /dev/null 2>&1; echo $?)"
kill $holder
expect "an ephemeral port is shown" 1 "$(rcon run -d --name eph -p 80 busybox sleep 60 > /dev/null; rcon ps --format '{{.Ports}}' -f name=eph | grep -cE '^0\.0\.0\.0:[0-9]+->80/tcp')"
rcon stop -t 0 web > /dev/null
expect "after stop the port is closed" "" "$(patience=3 fetch 127.0.0.1 8080 2> /dev/null)"
rcon start web > /dev/null; wait_for 20 answers
expect "and open again after start" hello "$(fetch 127.0.0.1 8080)"
expect "--network host sees the host's links" 1 "$(rcon run --rm --network host busybox ip -o link show up0 | wc -l)"
expect "--network none has only lo" 1 "$(rcon run --rm --network none busybox ip -o link | wc -l)"
expect "--network container: shares" "$address" "$(rcon run --rm --network container:web busybox ip -o -4 addr show eth0 | awk '{sub("/.*","",$4); print $4}')"
expect "--dns" "nameserver 192.0.2.53" "$(rcon run --rm --dns 192.0.2.53 busybox cat /etc/resolv.conf | grep nameserver)"
expect "--add-host" 1 "$(rcon run --rm --add-host db:192.0.2.7 busybox grep -cE '^192.0.2.7[[:space:]]+db$' /etc/hosts)"
expect "rules of others are as they were" "$others_before" "$(others)"
kill "$outside"
no_leaks "nothing is left"
ip link del up0 2> /dev/null; nft delete table ip other
finish
