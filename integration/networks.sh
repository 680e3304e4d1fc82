#!/bin/bash
# User networks: names, both address families, isolation, live connect and disconnect, a hundred containers that find each other, and
# what is left after kill -9. Several hosts are network namespaces: "outside" is a machine behind the host's uplink.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
other_host; outside=$other
ip link add up0 type veth peer name eth0 netns "$outside"
ip addr add 198.51.100.1/24 dev up0 && ip -6 addr add 2001:db8:1::1/64 dev up0 nodad && ip link set up0 up
at() { nsenter -t "$outside" -n "$@"; }
at ip link set lo up; at ip addr add 198.51.100.2/24 dev eth0; at ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad; at ip link set eth0 up
at ip route add default via 198.51.100.1; at ip -6 route add default via 2001:db8:1::1
# Who should answer is given time, however busy the machine is; what must not come is waited for as long as `patience` says.
sees() { rcon exec "$1" timeout "${patience:-20}" ping -c 1 -W "${patience:-20}" "${@:2}" > /dev/null 2>&1 && echo yes || echo no; }
looks_up() { rcon exec "$1" nslookup "${@:2}" 127.0.0.11 2> /dev/null | awk '/^Name:/ { seen = 1 } seen && /^Address/ { print $NF }' | sort | tr '\n' ' '; }
# One small HTTP client everywhere (busybox's wget needs what a static C library does not have): [at|in CONTAINER] get ADDRESS PORT
get() { printf 'GET /i HTTP/1.0\r\n\r\n' | timeout "${patience:-20}" busybox nc "$1" "$2" 2> /dev/null | tail -n 1; }
at_get() { printf 'GET /i HTTP/1.0\r\n\r\n' | at timeout "${patience:-20}" busybox nc "$1" "$2" 2> /dev/null | tail -n 1; }
in_get() { printf 'GET /i HTTP/1.0\r\n\r\n' | rcon exec -i "$1" timeout "${patience:-20}" nc "$2" "$3" 2> /dev/null | tail -n 1; }
field() { rcon inspect -f "$2" "$1"; }

echo " -- networks"
id=$(rcon network create --label tier=front front)
expect "create prints the id" "$(rcon network inspect -f '{{.Id}}' front)" "$id"
rcon network create --subnet 10.99.7.0/24 --gateway 10.99.7.254 --ip-range 10.99.7.64/28 --subnet fd99:7::/64 back > /dev/null
expect "ls" "back bridge front host none" "$(rcon network ls --format '{{.Name}}' | grep -v '^podman$' | tr '\n' ' ' | sed 's/ $//')"
expect "ls by label" front "$(rcon network ls -f label=tier=front --format '{{.Name}}')"
expect "the ranges that were asked for" "10.99.7.0/24 10.99.7.254 10.99.7.64/28 fd99:7::/64" "$(rcon network inspect back | jq -r '.[0].IPAM.Config | "\(.[0].Subnet) \(.[0].Gateway) \(.[0].IPRange) \(.[1].Subnet)"')"
expect "both families by default, IPv6 of a range of its own" "true fd" "$(rcon network inspect front | jq -r '.[0] | "\(.EnableIPv6) \(.IPAM.Config[1].Subnet[:2])"')"
expect "a name twice is refused" "1 network with name front already exists" "$(rcon network create front 2>&1 > /dev/null | sed -n 's/^error: /1 /p')"
expect "an overlapping range is refused" 1 "$(rcon network create --subnet 10.99.0.0/16 other > /dev/null 2>&1; echo $?)"
expect "what is built in stays" 1 "$(rcon network rm bridge > /dev/null 2>&1; echo $?)"

seq 8 | xargs -P 8 -I @ "$RCON" --root "$work/data" --run-root "$work/run" network create at@ > "$work/at" 2>&1
expect "eight created at once have eight ranges" 8 "$(seq 8 | xargs -I @ "$RCON" --root "$work/data" --run-root "$work/run" network inspect -f '{{(index .IPAM.Config 0).Subnet}}' at@ | sort -u | grep -c /)"
seq 8 | xargs -I @ "$RCON" --root "$work/data" --run-root "$work/run" network rm at@ > /dev/null

echo " -- names and addresses"
rcon run -d --name aa --network front busybox sleep 1000 > /dev/null
rcon run -d --name bb --network front --network-alias db --network-alias shared busybox sh -c 'mkdir /www; echo b > /www/i; httpd -h /www; sleep 1000' > /dev/null
rcon run -d --name cc --network name=back,ip=10.99.7.70,alias=shared --hostname cee busybox sleep 1000 > /dev/null
b4=$(field bb '{{.NetworkSettings.Networks.front.IPAddress}}') b6=$(field bb '{{.NetworkSettings.Networks.front.GlobalIPv6Address}}')
expect "the fixed address" 10.99.7.70 "$(field cc '{{.NetworkSettings.Networks.back.IPAddress}}')"
expect "a name by IPv4 and IPv6" "$(printf '%s\n' "$b4" "$b6" | sort | tr '\n' ' ')" "$(looks_up aa bb)"
expect "an alias" "$(printf '%s\n' "$b4" "$b6" | sort | tr '\n' ' ')" "$(looks_up aa db)"
expect "a short id" "$(printf '%s\n' "$b4" "$b6" | sort | tr '\n' ' ')" "$(looks_up aa "$(field bb '{{.Id}}' | cut -c1-12)")"
expect "an address back to its name" "bb.front" "$(rcon exec aa nslookup "$b4" 127.0.0.11 2> /dev/null | sed -n 's/.*name = //p')"
expect "reached by name over IPv4" yes "$(sees aa -4 bb)"
expect "reached by name over IPv6" yes "$(sees aa -6 bb)"
expect "a service by its alias" b "$(in_get aa db 80)"
expect "names end at the network" "" "$(looks_up aa cc)"
expect "networks are apart over IPv4" no "$(patience=3 sees aa 10.99.7.70)"
expect "and over IPv6" no "$(patience=3 sees aa "$(field cc '{{.NetworkSettings.Networks.back.GlobalIPv6Address}}')")"
expect "the outside is reached over IPv4" yes "$(sees aa 198.51.100.2)"
expect "and over IPv6" yes "$(sees aa 2001:db8:1::2)"
# On all addresses: not what answers for names, which listens on one.
expect "port 53 is the container's own" 0 "$(rcon exec bb sh -c 'nc -l -p 53 & p=$!
    i=0; until grep -qE "^ *[0-9]+: 0+:0035 0+:0000 0A " /proc/net/tcp /proc/net/tcp6 || ! kill -0 $p || [ $i = 200 ]; do i=$((i + 1)); sleep 0.1; done
    kill $p && [ $i -lt 200 ]' > /dev/null 2>&1; echo $?)"

echo " -- connect and disconnect"
rcon network connect --alias see front cc
expect "a second interface" "eth0 eth1 lo" "$(rcon exec cc ls /sys/class/net | tr '\n' ' ' | sed 's/ $//')"
expect "c is known in front now" yes "$(sees aa -4 cc)"
expect "by its alias, too" yes "$(sees aa -6 see)"
expect "c finds those of both networks" yes "$(sees cc -4 bb)"
expect "ps names both" "back,front" "$(rcon ps -a --filter name='^cc$' --format '{{.Networks}}')"
rcon network connect front cc 2> "$work/log"; expect "twice is refused" "1 1" "$? $(grep -c 'already exists in network front' "$work/log")"
rcon network disconnect front cc
expect "the interface is gone" "eth0 lo" "$(rcon exec cc ls /sys/class/net | tr '\n' ' ' | sed 's/ $//')"
expect "and the name" "" "$(looks_up aa cc)"
expect "a network in use stays" 1 "$(rcon network rm front > /dev/null 2>&1; echo $?)"
rcon run -d --name late --network bridge busybox sleep 1000 > /dev/null
rcon network connect front late
expect "one of the default network gets names with its first user network" yes "$(sees late -4 bb)"
rcon restart -t 0 late
expect "after a restart, too" "yes bridge,front" "$(sees late -4 bb) $(rcon ps --filter name=late --format '{{.Networks}}')"
rcon rename bb bee
expect "a rename is known at once" yes "$(sees aa -4 bee)"

echo " -- internal, no traffic between containers"
rcon network create --internal inside > /dev/null
rcon run -d --name ii --network inside busybox sleep 1000 > /dev/null
rcon run -d --name jj --network inside busybox sleep 1000 > /dev/null
expect "internal: within" yes "$(sees ii -4 jj)"
expect "internal: not out" no "$(patience=3 sees ii 198.51.100.2)"
expect "internal: not out over IPv6" no "$(patience=3 sees ii 2001:db8:1::2)"
# A server on another machine hears of the names that containers of other networks ask for, and of no others.
nsenter -t "$outside" -n timeout 600 python3 -c 'import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("198.51.100.2", 53))
while True:
    sys.stdout.buffer.write(server.recv(512)); sys.stdout.flush()' > "$work/asked" & listener=$!
wait_for 60 sh -c "nsenter -t $outside -n ss -Hlun sport = :53 | grep -q ."
rcon run --rm --network inside --dns 198.51.100.2 busybox timeout 10 nslookup from-inside.example > /dev/null 2>&1
rcon run --rm --network front --dns 198.51.100.2 busybox timeout 10 nslookup from-front.example > /dev/null 2>&1
wait_for 20 grep -aq from-front "$work/asked"
kill "$listener" 2> /dev/null; wait "$listener" 2> /dev/null
expect "internal: foreign names are not asked for" "from-front" "$(grep -ao 'from-[a-z]*' "$work/asked" | sort -u)"
rcon network create -o com.docker.network.bridge.enable_icc=false alone > /dev/null
rcon run -d --name xx --network alone busybox sleep 1000 > /dev/null
rcon run -d --name yy --network alone busybox sleep 1000 > /dev/null
expect "enable_icc=false: apart" no "$(patience=3 sees xx -4 yy)"
expect "enable_icc=false: out" yes "$(sees xx 198.51.100.2)"

echo " -- published ports"
rcon run -d --name web --network front -p 8080:80 -p 127.0.0.1:8081:80 busybox sh -c 'mkdir /www; echo web > /www/i; exec httpd -f -h /www' > /dev/null
up() { [ "$(get 127.0.0.1 8080)" = web ]; }
wait_for 20 up
expect "from the host's loopback" web "$(get 127.0.0.1 8080)"
expect "from outside over IPv4" web "$(at_get 198.51.100.1 8080)"
expect "from outside over IPv6" web "$(at_get 2001:db8:1::1 8080)"
expect "a loopback port not from outside" "" "$(patience=3 at_get 198.51.100.1 8081)"
web4=$(field web '{{.NetworkSettings.Networks.front.IPAddress}}') web6=$(field web '{{.NetworkSettings.Networks.front.GlobalIPv6Address}}')
expect "the container's own address is unreachable from outside" "" "$(patience=3 at_get $web4 80)"
expect "over IPv6, too" "" "$(patience=3 at_get $web6 80)"
expect "from a container of another network through the host" web "$(in_get cc 198.51.100.1 8080)"
gw4=$(field web '{{.NetworkSettings.Networks.front.Gateway}}') gw6=$(field web '{{.NetworkSettings.Networks.front.IPv6Gateway}}')
# That machine knows the way to the containers, as a router of theirs would: its default route leads here.
for to in "198.51.100.1 80" "2001:db8:1::1 80" "$gw4 80" "$gw6 80" "$gw4 8080" "$gw6 8080" "$web4 8080" "$web6 8080"; do
    expect "from outside nothing answers at $(sed "s/$gw4 /the bridge's address /; s/$gw6 /its IPv6 address /; s/$web4 /the container's /; s/$web6 /its IPv6 one /" <<< "$to")" "" "$(patience=3 at_get $to)"
done
expect "not even to a ping" "no no no no" "$(for to in "$gw4" "$gw6" "$web4" "$web6"; do at timeout 3 ping -c 1 -W 1 "$to" > /dev/null 2>&1 && echo yes || echo no; done | tr '\n' ' ' | sed 's/ $//')"
# Another machine, behind another uplink. The server says who asks.
other_host; beyond=$other
ip link add up1 type veth peer name eth0 netns "$beyond"
ip addr add 203.0.113.1/24 dev up1 && ip -6 addr add 2001:db8:2::1/64 dev up1 nodad && ip link set up1 up
behind() { nsenter -t "$beyond" -n "$@"; }
behind ip addr add 203.0.113.7/24 dev eth0; behind ip -6 addr add 2001:db8:2::7/64 dev eth0 nodad; behind ip link set eth0 up
behind ip route add default via 203.0.113.1; behind ip -6 route add default via 2001:db8:2::1
rcon exec web sh -c 'mkdir /www/cgi-bin; printf "#!/bin/sh\necho; echo \$REMOTE_ADDR\n" > /www/cgi-bin/who; chmod 755 /www/cgi-bin/who'
who() { printf 'GET /cgi-bin/who HTTP/1.0\r\n\r\n' | "${@:3}" timeout 20 busybox nc "$1" "$2" 2> /dev/null | tail -n 1 | sed 's/^\[*::ffff://; s/[][]//g'; }
expect "the server sees who asks: one machine" "198.51.100.2 2001:db8:1::2" "$(who 198.51.100.1 8080 at) $(who 2001:db8:1::1 8080 at)"
expect "and another" "203.0.113.7 2001:db8:2::7" "$(who 203.0.113.1 8080 behind) $(who 2001:db8:2::1 8080 behind)"
expect "each at any address of the host" "203.0.113.7 2001:db8:1::2" "$(who 198.51.100.1 8080 behind) $(who 2001:db8:2::1 8080 at)"
kill "$beyond"; ip link del up1
expect "hairpin" web "$(in_get web 198.51.100.1 8080)"

echo " -- pods"
rcon pod create --name pp --network front > /dev/null
rcon run -d --pod pp --name member busybox sleep 1000 > /dev/null
expect "a member finds others" yes "$(sees member -4 bee)"
expect "and is found by its own and its pod's name" "yes yes" "$(sees aa -4 member) $(sees aa -4 pp)"
rcon rm -f member > /dev/null
expect "until it is removed" "" "$(looks_up aa member)"

echo " -- kill -9"
pid=$(rcon inspect -f '{{.State.Pid}}' bee)
monitor=$(ps -o ppid= -p "$pid" | tr -d ' ')
kill -9 "$monitor"
await_death "$monitor"
rcon ps -a > /dev/null
expect "the name of one whose monitor was killed is gone" "" "$(looks_up aa bee)"
rcon rm -f bee > /dev/null
nft flush ruleset
rcon network reload > /dev/null
expect "what a flush of all rules removed is made anew by reload" web "$(get 127.0.0.1 8080)"

echo " -- a hundred"
rcon network create many > /dev/null
seq 100 | xargs -P 8 -I @ "$RCON" --root "$work/data" --run-root "$work/run" run -d --name n@ --network many busybox sleep 1000 > /dev/null
expect "all run" 100 "$(rcon ps -q --filter network=many | wc -l)"
expect "the first finds every other" 0 "$(rcon exec n1 sh -c 'failed=0; for n in $(seq 100); do nslookup -type=a n$n 127.0.0.11 > /dev/null 2>&1 || failed=$((failed + 1)); done; echo $failed')"
expect "each finds the last" 100 "$(for n in $(seq 100); do rcon exec "n$n" nslookup -type=a n100 127.0.0.11 > /dev/null 2>&1 && echo x; done | wc -l)"
rcon ps -aq | xargs -P 4 -n 10 "$RCON" --root "$work/data" --run-root "$work/run" rm -f > /dev/null
rcon pod rm -f pp > /dev/null 2>&1
expect "prune removes them all" "alone back front inside many" "$(rcon network prune -f | grep -v '^Deleted\|^$' | sort | tr '\n' ' ' | sed 's/ $//')"
expect "no bridge is left" "" "$(ip -o link show type bridge | awk -F': ' '{print $2}' | grep -v '^rcon0$')"
kill "$outside" 2> /dev/null
ip link del up0 2> /dev/null
no_leaks "nothing is left"
finish
