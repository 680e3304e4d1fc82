#!/bin/bash
# The Debian package: it is installed in a fresh Debian, used, and purged without a trace. The fresh Debian is a container.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(readlink -f "$0")")
mkdir "$work/deb"
export SOURCE_DATE_EPOCH=1700000000
package=$("$here/../packaging/deb.sh" "$RCON" "$work/deb")
expect "a package is built" 1 "$(find "$work/deb" -name 'rcon_*_*.deb' | wc -l)"
"$here/../packaging/deb.sh" "$RCON" "$work/again" > /dev/null
expect "the same sources give the same package" 0 "$(cmp -s "$work"/deb/*.deb "$work"/again/*.deb; echo $?)"
if command -v lintian > /dev/null; then
    expect "lintian finds no error" "" "$(lintian --allow-root --fail-on none --tag-display-limit 5 "$package" 2>&1 | grep '^E:')"
fi

rcon load -q -i "$FIXTURES/debian.tar" > /dev/null
rcon run -d --name fresh -v "$work/deb:/deb:ro" debian sleep 1000 > /dev/null
inside() { rcon exec fresh sh -c "$1" 2>&1; }
files() { inside 'find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/dpkg -o -path /var/log -o -path /run \) -prune -o -print' | sort; }
files > "$work/before"
# The image leaves manual pages and documents out of every package; here they are wanted.
expect "dpkg installs it" 0 "$(inside 'dpkg --path-include="/usr/share/*" -i /deb/*.deb > /dev/null 2>&1; echo $?')"
expect "rcon runs" "rcon version" "$(inside 'rcon --version' | cut -d' ' -f1,2)"
expect "rcon-runtime is the runtime" 0 "$(inside 'rcon-runtime --version > /dev/null; echo $?')"
expect "bash completes" "rcon is complete" "$(inside 'bash -c ". /usr/share/bash-completion/completions/rcon; complete -p rcon"' | grep -c -- '-F _rcon' | sed 's/^1$/rcon is complete/')"
expect "there are manual pages" 0 "$(inside 'zcat /usr/share/man/man1/rcon-run.1.gz | grep -q volumes'; echo $?)"
expect "the settings are a conffile" 1 "$(inside 'dpkg-query -W -f "\${Conffiles}" rcon' | grep -c /etc/rcon/rcon.toml)"
expect "dpkg finds no changed file" "" "$(inside 'dpkg --verify rcon')"
expect "dpkg purges it" 0 "$(inside 'dpkg -P rcon > /dev/null 2>&1; echo $?')"
files > "$work/after"
expect "nothing is left" "" "$(diff "$work/before" "$work/after")"
rcon rm -f fresh > /dev/null
no_leaks "nothing is left on the host"
finish
