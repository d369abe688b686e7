#!/bin/sh
# Holds meta-coracle against a checkout of openembedded-core: the crates are those of Cargo.lock, the
# layer parses without a warning, and its recipes resolve.
#
#   yocto-layer/check.sh OE
#
#   OE             a checkout of openembedded-core; bitbake inside it or beside it, or BITBAKE=DIR
#   PROGRAMS=DIR   takes the program that was built elsewhere, by coracle-agent-bin
#   NATIVE=1       also builds coracle-agent-native, with the host's cargo and python and the
#                  crates from the registry
#   CHECK_LAYER=1  also runs yocto-check-layer, which takes ten minutes
#   LINT=no        leaves oelint-adv out, and says so at the end
#
# bitbake does not run as root: started by root, it is run as `nobody`. Nothing of the checkout is
# changed; what bitbake writes lies in a folder of its own, which is removed (KEEP=1 leaves it).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
oe=${1:-}
[ -f "$oe/oe-init-build-env" ] || {
    echo "usage: make yocto OE=DIR, where DIR is a checkout of openembedded-core (branch wrynose)" >&2
    exit 2
}
oe=$(cd "$oe" && pwd)
for bitbake in "${BITBAKE:-}" "$oe/bitbake" "$oe/../bitbake" ''; do
    [ ! -x "$bitbake/bin/bitbake" ] || break
done
[ -n "$bitbake" ] || { echo "bitbake is neither in $oe nor beside it; say BITBAKE=DIR" >&2; exit 2; }
bitbake=$(cd "$bitbake" && pwd)

missing=
for tool in chrpath diffstat gawk lz4c zstd rpcgen file cpio python3; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || { echo "bitbake needs on this machine:$missing" >&2; exit 1; }
[ "${LINT:-}" = no ] || command -v oelint-adv >/dev/null || {
    echo "oelint-adv is not on this machine, and without it nobody has looked at the recipes' style: pip install oelint-adv, or say LINT=no" >&2
    exit 1
}
locale -a | grep -qix 'en_US.utf-\?8' || {
    echo "bitbake needs the locale en_US.UTF-8: localedef -i en_US -f UTF-8 en_US.UTF-8" >&2
    exit 1
}

build=$(mktemp -d)
clean() { [ -n "${KEEP:-}" ] && echo "left: $build" || rm -rf "$build"; }
trap clean EXIT
step() { printf '\n== %s\n' "$*"; }
if [ -d "$here/../target" ] && git -C "$here" rev-parse 2>/dev/null; then
    # bitbake takes a checksum of every file that a recipe's folder has, and `nobody` may not read all that cargo and tests left.
    step "a copy of the project without what was built"
    mkdir "$build/project"
    (cd "$here/.." && git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read) | tar --extract --directory "$build/project"
    here=$build/project/yocto-layer
    du -sh "$build/project" | cut -f1
fi
step "crates of Cargo.lock"
"$here/crates-inc.sh" --check
echo "in step"

step "oelint-adv"
if [ "${LINT:-}" != no ]; then
    # Suppressed: the project has no home page that HOMEPAGE could name, and CORACLE_PACKAGES is our own. What
    # oelint-adv calls info is its taste, and passed over.
    find "$here/meta-coracle" -name '*.bb' -o -name '*.bbappend' | xargs oelint-adv --quiet --exit-zero \
        --suppress oelint.var.mandatoryvar.HOMEPAGE --suppress oelint.vars.mispell.unknown \
        > "$build/lint" 2>&1 || { cat "$build/lint"; exit 1; }
    ! grep -E ':(error|warning):' "$build/lint" || exit 1
    echo "clean"
else
    echo "left out: LINT=no"
fi

mkdir -p "$build/conf" "$build/home"
cat > "$build/conf/bblayers.conf" <<EOF
BBPATH = "\${TOPDIR}"
BBFILES ?= ""
BBLAYERS = "$oe/meta $here/meta-coracle"
EOF
cat > "$build/conf/local.conf" <<EOF
MACHINE = "${MACHINE:-qemuarm64}"
DISTRO = "nodistro"
DISTRO_FEATURES:append = " coracle"
INIT_MANAGER = "${INIT_MANAGER:-systemd}"
CONNECTIVITY_CHECK_URIS = ""
INHERIT:remove = "uninative"
BB_NO_NETWORK = "1"
EOF
[ -n "${PROGRAMS:-}" ] && echo "CORACLE_PROGRAMS = \"$PROGRAMS\"" >> "$build/conf/local.conf"
[ -n "${NATIVE:-}" ] && cat >> "$build/conf/local.conf" <<EOF
BB_NO_NETWORK = "0"
ASSUME_PROVIDED += "python3-native cargo-native rust-native quilt-native patch-native"
HOSTTOOLS += "cargo rustc cc python3 patch"
EOF

as_user() {
    if [ "$(id -u)" = 0 ]; then
        chown -R nobody "$build"
        setpriv --reuid="$(id -u nobody)" --regid="$(id -g nobody)" --clear-groups \
            env -i HOME="$build/home" PATH="$bitbake/bin:$oe/scripts:$PATH" LANG=en_US.UTF-8 \
            BUILDDIR="$build" BBPATH="$build" sh -c "cd '$build' && $1"
    else
        env -i HOME="$build/home" PATH="$bitbake/bin:$oe/scripts:$PATH" LANG=en_US.UTF-8 \
            BUILDDIR="$build" BBPATH="$build" sh -c "cd '$build' && $1"
    fi
}

# Runs bitbake and fails on a warning too: a recipe that only warns today is broken in the next series.
# What it says about this host (a distribution that nobody validated) is not the layer's fault.
quietly() {
    log=$build/log
    as_user "$1" > "$log" 2>&1 || { cat "$log"; return 1; }
    if grep -E '^(WARNING|ERROR)' "$log" | grep -v -E 'has not been tested|OE-core.s config sanity'; then
        return 1
    fi
    tail -2 "$log"
}

step "parsing every recipe of openembedded-core and meta-coracle"
quietly "bitbake -p"
step "coracle-agent, coracle-console and the package group resolve"
quietly "bitbake -n coracle-agent coracle-console packagegroup-coracle"
step "coracle-image resolves"
quietly "bitbake -g coracle-image"
init=${INIT_MANAGER:-systemd}
case $init in sysvinit) other=systemd ;; *) other=sysvinit ;; esac
step "all of them with $other, not $init"
sed -i "s/^INIT_MANAGER = .*/INIT_MANAGER = \"$other\"/" "$build/conf/local.conf"
quietly "bitbake -n coracle-agent coracle-console packagegroup-coracle"
quietly "bitbake -g coracle-image"
sed -i "s/^INIT_MANAGER = .*/INIT_MANAGER = \"$init\"/" "$build/conf/local.conf"
if [ -n "${NATIVE:-}" ]; then
    step "coracle-agent-native is built"
    quietly "bitbake coracle-agent-native"
fi
if [ -n "${CHECK_LAYER:-}" ]; then
    step "yocto-check-layer"
    # It compares what is built with the layer and without, and tests nothing of a layer that is there already.
    sed -i "s# $here/meta-coracle##" "$build/conf/bblayers.conf"
    sed -i '/DISTRO_FEATURES:append = " coracle"/d' "$build/conf/local.conf"
    quietly "yocto-check-layer '$here/meta-coracle'"
    grep -E '^INFO: meta-coracle \.\.\. ' "$log" || true
    grep -q '^INFO: meta-coracle \.\.\. PASS' "$log" || { cat "$log"; exit 1; }
fi
if [ "${LINT:-}" = no ]; then
    printf '\nmeta-coracle: all of it holds but what oelint-adv would say, which was not asked\n'
else
    printf '\nmeta-coracle: all of it holds\n'
fi
