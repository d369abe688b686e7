#!/bin/sh
# Makes Debian packages of programs that are built already, for any architecture, without root:
# coracle-agent (both processes and the command line), coracle-console, coracle-release.
#
#   config/debian/build.sh PROGRAMS ARCHITECTURE OUTPUT
#
#   PROGRAMS       where cargo left them, such as target/aarch64-unknown-linux-gnu/release; a package
#                  whose programs are not all there is left out, and that is said
#   ARCHITECTURE   amd64, arm64 or armhf
#   OUTPUT         folder for the packages
#
# The same programs give the same bytes: times are those of SOURCE_DATE_EPOCH, or of the last commit.
set -eu
[ $# -eq 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
programs=$1 architecture=$2 output=$3
here=$(cd "$(dirname "$0")" && pwd)
case $architecture in
amd64 | arm64 | armhf) ;;
*) echo "$0: \`$architecture\` is not one of amd64, arm64, armhf" >&2; exit 2 ;;
esac
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$output"

# What the dynamic loader will ask for: the newest symbol version of glibc, and libgcc. Packed relocations ask
# for a version without a number, which glibc has since 2.36. Static programs ask for nothing.
depends() {
    for file in "$@"; do readelf -W -V -d "$file" 2>/dev/null || :; done > "$work/elf"
    glibc=$(sed 's/GLIBC_ABI_DT_RELR/GLIBC_2.36/g' "$work/elf" | grep -o 'GLIBC_[0-9][0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
    [ -z "$glibc" ] || printf 'libc6 (>= %s)' "$glibc"
    if grep -q 'libgcc_s' "$work/elf"; then printf '%slibgcc-s1' "${glibc:+, }"; fi
}

# package NAME SUMMARY EXTRA-DEPENDS "PARTS" "PROGRAM…"
package() {
    name=$1 summary=$2 extra=$3 parts=$4 needed=$5
    paths=
    for program in $needed; do
        if [ ! -f "$programs/$program" ]; then
            echo "$name is left out: $programs/$program is not there" >&2
            return 0
        fi
        paths="$paths $programs/$program"
    done
    tree=$work/$name
    # Word splitting is meant: neither holds a name with a blank.
    # shellcheck disable=SC2086
    "$here/../install.sh" "$programs" "$tree" $parts
    mkdir -p "$tree/DEBIAN" "$tree/usr/share/doc/$name"
    # Debian wants each package to say its licence under its own name.
    {
        echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
        echo "Upstream-Name: Coracle"
        echo
        echo "Files: *"
        echo "Copyright: the Coracle authors"
        echo "License: Apache-2.0"
        echo " On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0."
    } > "$tree/usr/share/doc/$name/copyright"
    # shellcheck disable=SC2086
    all=$(depends $paths)
    all="$all${all:+${extra:+, }}$extra"
    {
        echo "Package: $name"
        echo "Version: $version"
        echo "Architecture: $architecture"
        echo "Maintainer: the Coracle authors <coracle@localhost>"
        echo "Section: admin"
        echo "Priority: optional"
        echo "Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)"
        [ -z "$all" ] || echo "Depends: $all"
        echo "Description: $summary"
    } > "$tree/DEBIAN/control"
    if [ -d "$tree/etc" ]; then
        (cd "$tree" && find etc -type f | sort | sed 's,^,/,') > "$tree/DEBIAN/conffiles"
    fi
    for step in postinst prerm postrm; do
        if [ -f "$here/$name.$step" ]; then
            install -m 0755 "$here/$name.$step" "$tree/DEBIAN/$step"
        fi
    done
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -print | sort | sed 's,^\./,,' | xargs md5sum) > "$tree/DEBIAN/md5sums"
    find "$tree" -type d -exec chmod 0755 {} +
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$output/${name}_${version}_${architecture}.deb"
}

package coracle-agent "runs signed containers on this board" "ca-certificates" "agent cli" "coracle-agent"
package coracle-console "fleet console for boards that run Coracle" "mosquitto, ca-certificates" "console" "coracle-console"
package coracle-release "makes and signs releases for boards that run Coracle" "" "release" "coracle-release"
