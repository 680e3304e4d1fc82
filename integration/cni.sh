#!/bin/bash
# CNI: containers and pods on networks of Debian's plugins (bridge, host-local, portmap, firewall, tuning, bandwidth, ptp,
# loopback): addresses, ports, DEL with what was used at ADD, kill -9 at every step, CHECK, GC and STATUS.
. "$(dirname "$0")/lib.sh"
export PATH=$PATH:/usr/sbin
for need in /usr/lib/cni/bridge /usr/sbin/iptables; do
    [ -x $need ] || { fail "$need is installed (containernetworking-plugins, iptables)"; finish; exit 1; }
done
mkdir -p "$work/net.d" "$work/bin" "$work/ipam"
cat > "$work/rcon.toml" << END
[cni]
config_dir = "$work/net.d"
plugin_dirs = ["$work/bin", "/usr/lib/cni"]
timeout = 60
exclusive = true
END
export RCON_CONFIG_FILE=$work/rcon.toml
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null

bridge='"type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipMasq": true, "hairpinMode": true'
ipam='"ipam": {"type": "host-local", "dataDir": "'$work'/ipam", "ranges": [[{"subnet": "10.88.77.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}'
ports='{"type": "portmap", "capabilities": {"portMappings": true}}'
cat > "$work/net.d/10-web.conflist" << END
{"cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "web", "plugins": [
  {$bridge, "capabilities": {"ips": true, "mac": true}, $ipam},
  $ports,
  {"type": "firewall"},
  {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_announce": "2"}},
  {"type": "bandwidth", "ingressRate": 80000000, "ingressBurst": 8000000, "egressRate": 80000000, "egressBurst": 8000000}]}
END
cat > "$work/net.d/20-plain.conf" << END
{"cniVersion": "0.3.1", "name": "plain", "type": "ptp", "ipMasq": true,
 "dns": {"nameservers": ["192.0.2.77"], "domain": "plain.example", "options": ["ndots:3"]},
 "ipam": {"type": "host-local", "dataDir": "$work/ipam", "subnet": "10.88.78.0/24", "routes": [{"dst": "10.88.0.0/16"}]}}
END
cat > "$work/net.d/30-lo.conf" << END
{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}
END
echo '{"cniVersion": "1.0.0", "plugins": []}' > "$work/net.d/90-broken.conflist"

leases() { ls "$work/ipam/$1" 2> /dev/null | grep -c '^10\.'; }
chains() { iptables-save | grep -c "$1" || true; }
field() { rcon inspect -f "$2" "$1"; }
released() { [ "$(leases web) $(leases plain) $(ls "$work/data/cni/attachments" 2> /dev/null | wc -l)" = "0 0 0" ]; }
nothing_left() { # NAME
    wait_for 20 released
    expect "$1: no lease, record, chain or link is left" "0 0 0 0 0" \
        "$(leases web) $(leases plain) $(ls "$work/data/cni/attachments" 2> /dev/null | wc -l) $(chains 'CNI-DN-') $(ip -o link | grep -c 'master cnitest0')"
    expect "$1: no mount either" "" "$(grep -F "$work/run" /proc/self/mountinfo)"
}

echo "listing"
expect "the networks are listed" "lo plain web" "$(rcon network ls --filter driver=cni --format '{{.Name}}' | sort | tr '\n' ' ' | sed 's/ $//')"
expect "and inspected" "cni 10.88.77.0/24" "$(rcon network inspect -f '{{.Driver}} {{(index .IPAM.Config 0).Subnet}}' web)"
expect "one that is not there is told" 125 "$(rcon run --rm --network nowhere busybox true 2> "$work/err"; echo $?)"
expect "by name" 1 "$(grep -c nowhere "$work/err")"

echo "a container"
rcon run -d --name one --network web -p 18080:80 busybox sh -c 'mkdir /www; echo hello > /www/index.html; httpd -f -h /www -p 80' > /dev/null
wait_for 20 curl -sf http://127.0.0.1:18080/
address=$(field one '{{.NetworkSettings.Networks.web.IPAddress}}')
expect "its address is that of the plugin" "$address" "$(rcon exec one ip -o -4 addr show eth0 | awk '{sub("/.*", "", $4); print $4}')"
expect "and is leased there" "1 1" "$(leases web) $(ls "$work/ipam/web" | grep -cx "$address")"
expect "its MAC address is told" "$(rcon exec one cat /sys/class/net/eth0/address)" "$(field one '{{.NetworkSettings.Networks.web.MacAddress}}')"
expect "its gateway too" 10.88.77.1 "$(field one '{{.NetworkSettings.Networks.web.Gateway}}')"
expect "its name leads to it" "$address" "$(rcon exec one sh -c 'grep -w "$(hostname)" /etc/hosts' | awk '{print $1}')"
expect "the published port is reached" hello "$(curl -s http://127.0.0.1:18080/)"
expect "and shown" '0.0.0.0:18080->80/tcp' "$(rcon ps --format '{{.Ports}}' -f name=one)"
expect "tuning set its sysctl" 2 "$(rcon exec one cat /proc/sys/net/ipv4/conf/eth0/arp_announce)"
expect "bandwidth limits the link" 1 "$(tc qdisc | grep -c 'tbf.*rate 80Mbit' | sed 's/^[1-9].*/1/')"
expect "firewall let it through" 1 "$(iptables-save | grep -c -- "-s $address/32 -j ACCEPT" | sed 's/^[1-9].*/1/')"
expect "a second one reaches the first" hello "$(rcon run --rm --network web busybox wget -qO- "http://$address/")"
expect "which is released again" 1 "$(leases web)"
rcon restart -t 0 one > /dev/null
wait_for 20 curl -sf http://127.0.0.1:18080/
expect "after a restart the port is reached" hello "$(curl -s http://127.0.0.1:18080/)"
mv "$work/net.d/10-web.conflist" "$work/web.conflist"
rcon rm -f one > /dev/null
nothing_left "removed without its configuration"
mv "$work/web.conflist" "$work/net.d/10-web.conflist"

echo "wishes"
expect "--ip" 10.88.77.200 "$(rcon run --rm --network web --ip 10.88.77.200 busybox ip -o -4 addr show eth0 | awk '{sub("/.*", "", $4); print $4}')"
expect "--mac-address" 02:11:22:33:44:55 "$(rcon run --rm --network web --mac-address 02:11:22:33:44:55 busybox cat /sys/class/net/eth0/address)"
expect "a port on a network without portmap is refused" 125 "$(rcon run --rm --network plain -p 18081:80 busybox true 2> "$work/err"; echo $?)"
expect "with the reason" 1 "$(grep -c 'capability "portMappings"' "$work/err")"
expect "a single configuration of an old version" 1 "$(rcon run --rm --network plain busybox ip -o -4 addr show eth0 | grep -c ' 10\.88\.78\.')"
resolv() { rcon run --rm --network plain "$@" busybox cat /etc/resolv.conf | tr '\n' ' '; }
expect "name servers that plugins give" "nameserver 192.0.2.77 search plain.example options ndots:3 " "$(resolv)"
expect "and those that are asked for in their place" "nameserver 192.0.2.78 search plain.example options ndots:3 " "$(resolv --dns 192.0.2.78)"
nothing_left "after wishes"

echo "failures"
cat > "$work/bin/breaks" << 'END'
#!/bin/sh
cat > /dev/null
[ "$CNI_COMMAND" != ADD ] || { echo '{"cniVersion": "1.0.0", "code": 110, "msg": "out of luck", "details": "this time"}'; exit 1; }
END
cat > "$work/bin/waits" << END
#!/bin/sh
input=\$(cat)
[ "\$CNI_COMMAND" != ADD ] || { touch $work/waiting; sleep 20; printf '%s' "\$input" | jq -c .prevResult; }
END
chmod 755 "$work/bin/"*
for name in breaks waits; do
    echo '{"cniVersion": "1.0.0", "name": "'$name'", "plugins": [{'$bridge', '$ipam'}, {"type": "'$name'"}]}' > "$work/net.d/40-$name.conflist"
done
expect "a plugin that fails fails the start" 125 "$(rcon run --name two --network breaks busybox true 2> "$work/err"; echo $?)"
expect "and is named" 1 "$(grep -c 'plugin "breaks" failed at ADD for network "breaks": out of luck: this time (code 110)' "$work/err")"
rcon rm two > /dev/null
expect "its lease is free" 0 "$(ls "$work/ipam/breaks" 2> /dev/null | grep -c '^10\.')"
"$RCON" --root "$work/data" --run-root "$work/run" run -d --name killed --network waits busybox sleep 100 > /dev/null 2>&1 & starter=$!
wait_for 20 test -e "$work/waiting"
kill -9 "$starter" 2> /dev/null; wait "$starter" 2> /dev/null
expect "a start that was killed while a plugin worked" 1 "$(ls "$work/ipam/waits" | grep -c '^10\.')"
rcon ps -a > /dev/null; rcon rm -f killed > /dev/null 2>&1
expect "is released by the next command" 0 "$(ls "$work/ipam/waits" 2> /dev/null | grep -c '^10\.')"
rcon run -d --name three --network web -p 18080:80 busybox sleep 1000 > /dev/null
init=$(field three '{{.State.Pid}}') monitor=$(jq .monitor_pid "$work/run/containers/$(field three '{{.Id}}')/live.json")
kill -9 "${monitor:?}" "${init:?}"
await_death "$monitor" "$init"
rcon ps -a > /dev/null
expect "after kill -9 of the monitor the next command releases" "0 0" "$(leases web) $(chains CNI-DN-)"
rcon rm -f three > /dev/null
nothing_left "after failures"

echo "pods"
rcon pod create --name pod --network web -p 18080:80 > /dev/null
rcon run -d --pod pod --name m1 busybox sh -c 'mkdir /www; echo pod > /www/index.html; httpd -f -h /www -p 80' > /dev/null
wait_for 20 curl -sf http://127.0.0.1:18080/
expect "the port leads to the pod" pod "$(curl -s http://127.0.0.1:18080/)"
expect "members share its address" pod "$(rcon run --rm --pod pod busybox wget -qO- http://127.0.0.1/)"
expect "one lease for all" 1 "$(leases web)"
rcon pod stop -t 0 pod > /dev/null
expect "stop releases it" 0 "$(leases web)"
rcon pod start pod > /dev/null
expect "start leases one again" 1 "$(leases web)"
rcon pod rm -f -t 0 pod > /dev/null
nothing_left "after pods"

echo "check"
rcon run -d --name four --network web busybox sleep 1000 > /dev/null
expect "system check" 0 "$(rcon system check -q > "$work/check" 2>&1; echo $?)"
nsenter -t "$(field four '{{.State.Pid}}')" -n ip link del eth0
expect "a lost interface is found" 1 "$(rcon system check > "$work/check" 2>&1; echo $?)"
expect "by its plugin" 1 "$(grep -c 'CNI plugin "bridge" failed at CHECK for network "web"' "$work/check")"
rcon rm -f four > /dev/null
nothing_left "after check"

echo "many"
for n in $(seq 12); do rcon run -d --name "many$n" --network web busybox sleep 1000 > /dev/null & done; wait $(jobs -p)
expect "twelve at once have twelve addresses" 12 "$(for n in $(seq 12); do field "many$n" '{{.NetworkSettings.Networks.web.IPAddress}}'; done | sort -u | grep -c '^10\.')"
for n in $(seq 12); do rcon rm -f "many$n" > /dev/null & done; wait $(jobs -p)
nothing_left "after many"

ip link del cnitest0 2> /dev/null
iptables -t nat -F; iptables -F; iptables -t nat -X; iptables -X
no_leaks "nothing is left"
finish
