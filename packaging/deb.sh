#!/bin/bash
# deb.sh BINARY OUTPUT_DIRECTORY: a Debian package of the binary, its pages and completions. Prints the path of the package.
set -euo pipefail
binary=$(readlink -f "$1") out=$2
here=$(dirname "$(readlink -f "$0")")
top=$(dirname "$here")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
architecture=${ARCHITECTURE:-$(dpkg --print-architecture)}
# The time of the sources, so that the same sources give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2> /dev/null || stat -c %Y "$top/CHANGELOG.md")}
export SOURCE_DATE_EPOCH
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
put() { install -D -m "$1" "$2" "$root/$3"; } # MODE FILE PATH

put 755 "$binary" usr/bin/rcon
ln -s rcon "$root/usr/bin/rcon-runtime"
mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
    "$root/usr/share/fish/vendor_completions.d" "$root/usr/share/doc/rcon"
pages=$("$binary" __man)
for page in $pages; do "$binary" __man "$page" | gzip -9n > "$root/usr/share/man/man1/$page.1.gz"; done
"$binary" completion bash > "$root/usr/share/bash-completion/completions/rcon"
"$binary" completion zsh > "$root/usr/share/zsh/vendor-completions/_rcon"
"$binary" completion fish > "$root/usr/share/fish/vendor_completions.d/rcon.fish"
put 644 "$here/debian/rcon.toml" etc/rcon/rcon.toml
put 644 "$here/debian/copyright" usr/share/doc/rcon/copyright
printf 'rcon (%s) stable; urgency=medium\n\n  * What changed for users is in CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" \
    "$(sed -n 's/^Maintainer: //p' "$here/debian/control")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$root/usr/share/doc/rcon/changelog.gz"
for document in CHANGELOG.md:CHANGELOG.md README.md:README.md docs/configuration.md:configuration.md docs/compatibility.md:compatibility.md docs/api.md:api.md; do
    gzip -9n < "$top/${document%%:*}" > "$root/usr/share/doc/rcon/${document#*:}.gz"
done
put 644 "$here/debian/lintian-overrides" usr/share/lintian/overrides/rcon
for unit in "$here"/systemd/*; do
    [ -f "$unit" ] || continue
    sed 's|/usr/local/bin/rcon|/usr/bin/rcon|' "$unit" > "$root/unit"
    put 644 "$root/unit" "usr/lib/systemd/system/$(basename "$unit")"
    rm "$root/unit"
done
find "$root" -type d -exec chmod 755 {} + -o -type f ! -perm -u+x -exec chmod 644 {} +

size=$(du -sk "$root" | cut -f1)
mkdir "$root/DEBIAN"
(cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/" "$here/debian/control" > "$root/DEBIAN/control"
install -m 644 "$here/debian/conffiles" "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "$here/debian/$script" "$root/DEBIAN/$script"; done
mkdir -p "$out"
package=$out/rcon_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" > /dev/null
echo "$package"
