#!/bin/sh
# Tells what rustc is given for a board's program: the C library is in it, and no word of where the builder keeps crates, which
# messages of panics would name. That is 29 KiB, and bytes that are another builder's too.
#
#   RUSTFLAGS=$(agent/board/flags.sh [FEATURE…])
set -eu
printf '%s' '-C target-feature=+crt-static'
for feature in "$@"; do printf ',%s' "$feature"; done
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    [ ! -d "$crates" ] || printf ' --remap-path-prefix=%s=' "$crates"
done
