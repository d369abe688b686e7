#!/bin/sh
# Makes the disk of a board: a partition table, a read-only root with Coracle as `make install` lays it
# out, and a data partition for /var/lib/coracle. Needs no root, no mount and no loop device.
#
#   images/boards/build.sh --programs DIR --busybox FILE --trust FILE --output FILE [--library FILE]…
#                          [--base TREE] [--site FILE] [--quotas no] [--root-mib N] [--data-mib N]
#
#   --programs   where cargo left coracle-agent
#   --busybox    a static busybox of the board's architecture; it is the board's init and shell
#   --base       instead of busybox: the tree of a distribution with systemd, such as mmdebstrap makes
#   --trust      the fleet's root.json
#   --site       what this board changes about its profile: /etc/coracle/board.toml
#   --quotas     no: the data partition has no project quotas, for a kernel that does not know them
#   --library    a shared library that the programs need, at the path where it lies here
#
# The same input gives the same bytes: times are those of SOURCE_DATE_EPOCH or of the last commit, and
# UUIDs and hash seeds are fixed.
set -eu
umask 022
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
# In a user namespace of one's own all files belong to root, as they shall on the board.
[ "$(id -u)" = 0 ] || exec unshare --map-root-user "$0" "$@"

fail() { echo "$0: $*" >&2; exit 2; }
programs= busybox= base= trust= output= libraries= site= quotas=yes root_mib=48 data_mib=975
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "\`$1\` needs a value"
    case $1 in
    --programs) programs=$2 ;;
    --busybox) busybox=$2 ;;
    --base) base=$2 ;;
    --trust) trust=$2 ;;
    --output) output=$2 ;;
    --library) libraries="$libraries $2" ;;
    --site) site=$2 ;;
    --quotas) quotas=$2 ;;
    --root-mib) root_mib=$2 ;;
    --data-mib) data_mib=$2 ;;
    *) fail "\`$1\` is not one of --programs, --busybox, --base, --trust, --output, --library, --site, --quotas, --root-mib, --data-mib" ;;
    esac
    shift 2
done
for needed in "$programs" "$busybox$base" "$trust" "$output"; do
    [ -n "$needed" ] || fail "--programs, --busybox or --base, --trust and --output are needed"
done
[ -z "$busybox" ] || [ -f "$busybox" ] || fail "--busybox $busybox is not there"
[ -z "$base" ] || [ -d "$base" ] || fail "--base $base is no folder"
[ -f "$trust" ] || fail "--trust $trust is not there: \`coracle-release root create\` makes it"
[ -z "$site" ] || [ -f "$site" ] || fail "--site $site is not there"
case $quotas in yes | no) ;; *) fail "--quotas $quotas: yes or no" ;; esac
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 1700000000)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/root
mkdir -p "$tree" "$work/data"

# Programs, settings, units and scripts as they ship, and the trust root.
coracle() {
    make -s -C "$here/../.." install "PROGRAMS=$(cd "$programs" && pwd)" "DESTDIR=$tree" PARTS="agent cli"
    install -D -m 0644 "$trust" "$tree/etc/coracle/root.json"
    [ -z "$site" ] || install -m 0644 "$site" "$tree/etc/coracle/board.toml"
    mkdir -p "$tree/var/lib/coracle"
}

# busybox, with the init scripts of /etc/init.d.
sysvinit() {
    for folder in dev proc sys run root mnt tmp usr/share/udhcpc etc/rcS.d; do mkdir -p "$tree/$folder"; done
    install -D -m 0755 "$busybox" "$tree/bin/busybox"
    while read -r folder applets; do
        folder=${folder%:}
        mkdir -p "$tree/$folder"
        for applet in $applets; do ln -s /bin/busybox "$tree/$folder/$applet"; done
    done < "$here/sysvinit/applets"
    for library in $libraries; do install -D -m 0755 "$library" "$tree$library"; done
    for script in rcS rcK; do install -D -m 0755 "$here/sysvinit/$script" "$tree/etc/init.d/$script"; done
    install -m 0755 "$here/sysvinit/udhcpc.script" "$tree/usr/share/udhcpc/default.script"
    install -m 0644 "$here/sysvinit/inittab" "$tree/etc/inittab"
    ln -s ../init.d/coracle-supervisor "$tree/etc/rcS.d/S50coracle-supervisor"
    ln -s ../init.d/coracled "$tree/etc/rcS.d/S60coracled"
    # The user is the one of sysusers.d, which nothing reads on a board without systemd.
    grep -q '^u coracle ' "$tree/usr/lib/sysusers.d/coracle.conf" || fail "sysusers.d names no user coracle"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'coracle:x:990:990:Coracle daemon:/var/lib/coracle:/bin/false' > "$tree/etc/passwd"
    printf '%s\n' 'root:x:0:' 'tty:x:5:' 'coracle:x:990:' > "$tree/etc/group"
}

# The distribution's tree, with the units of /usr/lib/systemd/system.
systemd() {
    for unneeded in usr/share/doc usr/share/man usr/share/locale usr/share/info var/cache/apt var/lib/apt var/log boot \
        var/cache/ldconfig etc/hostname etc/resolv.conf; do rm -rf "${tree:?}/$unneeded"; done
    mkdir -p "$tree/var/log"
    : > "$tree/etc/machine-id"
    install -m 0644 "$here/systemd/fstab" "$tree/etc/fstab"
    install -D -m 0644 "$here/systemd/journal.conf" "$tree/etc/systemd/journald.conf.d/board.conf"
    install -D -m 0644 "$here/systemd/uplink.network" "$tree/etc/systemd/network/uplink.network"
    install -m 0644 "$here/systemd/board-shell.service" "$tree/etc/systemd/system/board-shell.service"
    systemd-sysusers --root="$tree" coracle.conf 2> "$work/sysusers.log" || { cat "$work/sysusers.log" >&2; exit 1; }
    systemctl --root="$tree" --quiet enable systemd-networkd.service coracle-supervisor.service coracled.service board-shell.service
    # systemd-getty-generator would put a second reader on the same line.
    systemctl --root="$tree" --quiet mask serial-getty@hvc0.service
    # Days since the account was made are in it, and the copy of before.
    rm -f "$tree/etc/passwd-" "$tree/etc/group-" "$tree/etc/shadow-" "$tree/etc/gshadow-" "$tree/etc/.pwd.lock"
    sed -i 's/^\(coracle:[^:]*:\)[0-9]*:/\10:/' "$tree/etc/shadow"
}

if [ -n "$base" ]; then
    cp -a "$base/." "$tree"
    coracle
    systemd
    mounts=$tree/etc/fstab
else
    coracle
    sysvinit
    mounts=$tree/etc/init.d/rcS
fi
features=,quota,project options=,quotatype=prjquota
if [ "$quotas" = no ]; then
    features= options=
    sed -i 's/,prjquota//' "$mounts"
fi

# file_system TREE MIB LABEL UUID [FEATURES OPTIONS]: a file system with the tree in it.
# mke2fs takes change times from the tree, which nobody can set there, so they are set in the image.
file_system() {
    find "$1" -exec touch -h -d "@$epoch" {} +
    truncate -s "$2M" "$work/$3"
    E2FSPROGS_FAKE_TIME=$epoch mke2fs -q -t ext4 -b 4096 -m 0 -L "$3" -U "$4" \
        -E "hash_seed=$4,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0${6:-}" -O "^metadata_csum_seed${5:-}" -d "$1" "$work/$3"
    {
        # shellcheck disable=SC2012
        for inode in 2 $(seq 11 $((11 + $(find "$1" | wc -l)))); do
            for field in atime ctime mtime crtime; do echo "set_inode_field <$inode> $field @$epoch"; done
        done
    } > "$work/fields"
    E2FSPROGS_FAKE_TIME=$epoch debugfs -w -f "$work/fields" "$work/$3" > /dev/null 2> "$work/debugfs.log" \
        || { cat "$work/debugfs.log" >&2; exit 1; }
}
file_system "$tree" "$root_mib" coracle-root 6c0f2f0e-5d3c-4f6e-9a55-1f0b8e1f0a01
file_system "$work/data" "$data_mib" coracle-data 6c0f2f0e-5d3c-4f6e-9a55-1f0b8e1f0a02 "$features" "$options"

# The partition table: MBR, both from a whole MiB on (512-byte sectors).
octets() { printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
partition() { printf '\\000\\376\\377\\377\\203\\376\\377\\377%s%s' "$(octets "$1")" "$(octets "$2")"; }
truncate -s "$((1 + root_mib + data_mib))M" "$work/disk"
# shellcheck disable=SC2059
printf "$(octets 1127236163)\\000\\000$(partition 2048 $((root_mib * 2048)))$(partition $(((1 + root_mib) * 2048)) $((data_mib * 2048)))" \
    | dd of="$work/disk" bs=1 seek=440 conv=notrunc status=none
printf '\125\252' | dd of="$work/disk" bs=1 seek=510 conv=notrunc status=none
dd if="$work/coracle-root" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/coracle-data" of="$work/disk" bs=1M seek=$((1 + root_mib)) conv=notrunc,sparse status=none
mkdir -p "$(dirname "$output")"
mv "$work/disk" "$output"
