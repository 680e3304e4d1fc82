#!/bin/sh
# in-guest.sh: the conformance table inside the guest of ../cgroup2/guest.sh, under pure cgroup v2.
# The whole table for rcon; the peers only where the cgroup layout decides, since software emulation is slow and the
# rest of their columns is the same as on the host.
set -u
cd /payload/tree || exit 1
export TMPDIR=/var/tmp # ext4: this kernel cannot map the ids of a tmpfs
sh ./rootfs.sh /payload/busybox.tar /tmp/rootfs
layout='^(cgroup|resource|device_list|update|pause|events|kill_all|delete_with|ps_|namespace_cgroup)'
status=0
echo "== what the cgroup layout decides: runc, crun, rcon"
python3 -B ./run.py --rcon /payload/rcon --rootfs /tmp/rootfs --only "$layout" || status=1
echo "== everything else: rcon"
python3 -B ./run.py --rcon /payload/rcon --rootfs /tmp/rootfs --runtimes rcon --except "$layout" || status=1
exit "$status"
