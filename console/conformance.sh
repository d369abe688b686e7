#!/bin/bash
# Runs the suite of opencontainers/distribution-spec against the console's registry: `make conformance SUITE=dir`.
#
#   conformance.sh SUITE CONSOLE RELEASE [OUT]
#
# SUITE is a checkout of it (built with go 1.24 or newer, GO=path), CONSOLE and RELEASE are coracle-console and coracle-release.
# OCI_… variables of the suite's README hold; its reports are kept in OUT. Ends with an error when a check fails.
set -euo pipefail

suite=$(realpath "$1") console=$(realpath "$2") release=$(realpath "$3") out=$(realpath -m "${4:-$(mktemp -d)}")
mkdir -p "$out"
state=$(mktemp -d) serving=
finish() {
  if [ -n "$serving" ]; then
    kill "$serving" 2>/dev/null || true
    wait "$serving" 2>/dev/null || true
  fi
  rm -rf "$state"
}
trap finish EXIT

(cd "$suite/conformance" && "${GO:-go}" build -o "$state/suite" .)

cd "$state"
for role in root release deploy; do "$release" keys new --role "$role" --output "$role.pk8" > keys.log; done
"$release" root create --output root.json --root-key root.pk8.pub --root-threshold 1 --release-key release.pk8.pub \
  --deploy-key deploy.pk8.pub > keys.log
"$release" root sign --key root.pk8 root.json > keys.log
read -r port mqtt < <(python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))')
"$console" serve --state "$state/console" --listen "127.0.0.1:$port" --board-listen 127.0.0.1:0 --mqtt-listen "127.0.0.1:$mqtt" \
  --advertise 127.0.0.1 --root root.json --deploy-key deploy.pk8 --ready-file "$state/ready" 2> "$out/console.log" &
serving=$!
for _ in {1..600}; do
  [ ! -e "$state/ready" ] || break
  kill -0 "$serving" 2>/dev/null || break
  sleep 0.1
done
[ -e "$state/ready" ] || { cat "$out/console.log"; echo "the console did not start"; exit 1; }
: "${OCI_DATA_SHA512:=false}" "${OCI_API_BLOBS_UPLOAD_CANCEL:=true}" "${OCI_API_BLOBS_DIGEST_HEADER:=true}" "${OCI_API_MANIFESTS_DIGEST_HEADER:=true}"
export OCI_DATA_SHA512 OCI_API_BLOBS_UPLOAD_CANCEL OCI_API_BLOBS_DIGEST_HEADER OCI_API_MANIFESTS_DIGEST_HEADER
OCI_REGISTRY=127.0.0.1:$port OCI_TLS=disabled OCI_USERNAME=token OCI_PASSWORD=$(cat console/admin.token) OCI_RESULTS_DIR=$out \
  "$state/suite" | tee "$out/report.txt"
echo "reports: $out"
