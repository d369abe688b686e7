#!/bin/bash
# instructions.sh OLD NEW: what decoding the delta between two folders costs, in instructions for each byte of the newer one's tar, on
# x86-64, arm64 and armv7. They are counted in QEMU's user emulation, and do not depend on what else the machine does. It is the
# decoder's work alone (benches/delta.rs): nothing is unpacked or digested. Called by `make bench-deltas-arm`.
#
# PROGRAMS=FOLDER: programs that were built before, called x86_64, aarch64 and arm; those that are missing are not measured.
set -euo pipefail
[ $# = 2 ] || { echo "usage: instructions.sh OLD NEW (two folders)" >&2; exit 2; }
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Where cargo put the benchmark for a target. As a board's program is built: the step that joins all crates is for size, and turns no
# loop into vectors.
built() {
  ${CARGO:-cargo} rustc --quiet --release -p coracle-images --bench delta --message-format=json "$@" -- -C opt-level=z |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

if [ -z "${PROGRAMS:-}" ]; then
  PROGRAMS=$work
  cp "$(built)" "$work/x86_64"
  for board in aarch64-unknown-linux-gnu:aarch64-linux-gnu-gcc:aarch64: armv7-unknown-linux-gnueabihf:arm-linux-gnueabihf-gcc:arm:,+thumb-mode; do
    IFS=: read -r triple linker machine features <<< "$board"
    name=${triple//-/_}
    export "CC_$name=$linker" "CARGO_TARGET_${name^^}_LINKER=$linker" "CARGO_TARGET_${name^^}_RUSTFLAGS=-C target-feature=+crt-static$features"
    cp "$(built --target "$triple")" "$work/$machine"
  done
fi

major=$(qemu-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p;q')
gcc -O2 -shared -fPIC -DAPI=$((major < 9 ? 1 : 2)) "$here/instructions.c" -o "$work/instructions.so"
for tree in 1 2; do
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "${!tree}" -cf "$work/$tree.tar" .
done
"$PROGRAMS/x86_64" make "$work/1.tar" "$work/2.tar" "$work/delta"
size=$(stat -c %s "$work/2.tar")
for machine in x86_64 aarch64 arm; do
  [ -e "$PROGRAMS/$machine" ] || continue
  said=$("qemu-$machine" -plugin "$work/instructions.so" -d plugin -D "$work/count" "$PROGRAMS/$machine" decode "$work/delta" "$1")
  grep -q "^$size bytes" <<< "$said" || { echo "on $machine it made something else: $said" >&2; exit 1; }
  count=$(sed -n 's/^instructions: //p' "$work/count")
  echo "$machine: $count instructions, $((count / size)) for each of $size bytes"
done
