#!/bin/sh
# Writes coracle-crates.inc from Cargo.lock: each crate with its checksum, as bitbake's fetcher wants
# it. With --check writes nothing, and fails when the file is out of date.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/../Cargo.lock
target=$here/meta-coracle/recipes-coracle/coracle-crates.inc
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT

# Our own crates have no checksum in the lock file and are left out.
awk '
    function value(line) { sub(/^[^"]*"/, "", line); sub(/".*$/, "", line); return line }
    function flush() {
        if (name != "" && checksum != "") {
            crates = crates "    crate://crates.io/" name "/" version " \\\n"
            sums = sums "SRC_URI[" name "-" version ".sha256sum] = \"" checksum "\"\n"
        }
        name = version = checksum = ""
    }
    /^\[\[package\]\]/ { flush() }
    /^name = /         { name = value($0) }
    /^version = /      { version = value($0) }
    /^checksum = /     { checksum = value($0) }
    END {
        flush()
        print "# Written by yocto-layer/crates-inc.sh from Cargo.lock; not by hand.\n"
        printf "SRC_URI += \"\\\n%s\"\n\n%s", crates, sums
    }
' "$lock" > "$fresh"

if [ "${1:-}" = --check ]; then
    cmp -s "$fresh" "$target" || { echo "$target is out of date: run $0" >&2; exit 1; }
else
    cat "$fresh" > "$target"
fi
