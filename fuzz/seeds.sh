#!/bin/sh
# Fills corpus/<target>/ with what the tests already know to be interesting. Can be run again.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/envelope corpus/documents corpus/messages corpus/unpack corpus/delta corpus/tar_diff \
	corpus/index corpus/manifest
for file in ../protocol/tests/attacks/*/*.json; do
	[ "$(wc -c <"$file")" -lt 65536 ] || continue
	name=$(echo "$file" | sed 's|.*attacks/||; s|/|-|')
	# Other folders hold documents that the same keys signed: to that target they would be forgeries.
	case $name in honest-*) cp "$file" "corpus/envelope/$name" ;; esac
	# The payload alone, without its envelope.
	payload=$(sed -n 's/.*"payload":"\([^"]*\)".*/\1/p' "$file")
	[ -z "$payload" ] || echo "$payload" | base64 -d >"corpus/documents/$name" 2>/dev/null || true
done
cp ../protocol/tests/golden/*.json corpus/messages/
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/bin"
printf 'one two four! %.0s' 1 2 3 4 5 6 7 8 >"$work/tree/bin/web"
ln -s web "$work/tree/bin/link"
touch "$work/tree/bin/.wh.old"
tar -C "$work/tree" --format=gnu -cf "$work/layer" .
tar -C "$work/tree" --format=pax -cf "$work/pax" .
# The first byte says how it is packed: 0 tar, 1 gzip, 2 zstd.
{ printf '\000'; cat "$work/layer"; } >corpus/unpack/tar
{ printf '\000'; cat "$work/pax"; } >corpus/unpack/pax
{ printf '\001'; gzip -nc "$work/layer"; } >corpus/unpack/gzip
if command -v zstd >/dev/null; then { printf '\002'; zstd -qc "$work/layer"; } >corpus/unpack/zstd; fi
cp seeds/*.delta corpus/delta/
cp seeds/*.tar_diff corpus/tar_diff/
cp seeds/*.index corpus/index/
# The first byte says which it is: 0 a manifest, 1 a configuration.
for file in seeds/*.manifest; do { printf '\000'; cat "$file"; } >"corpus/manifest/$(basename "$file")"; done
for file in seeds/*.config; do { printf '\001'; cat "$file"; } >"corpus/manifest/$(basename "$file")"; done
