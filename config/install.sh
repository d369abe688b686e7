#!/bin/sh
# Puts Coracle below a folder, as it lies on a board or a server: programs, units, init scripts,
# settings, profiles. It builds nothing and starts nothing.
#
#   config/install.sh PROGRAMS DESTDIR PART…
#
#   PROGRAMS   where cargo left the programs, such as target/release
#   DESTDIR    the root of the tree; empty for this machine
#   PART       agent, cli, console, release
#
# Settings that are there already are not touched: they are the site's.
set -eu
[ $# -ge 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
programs=$1 root=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)

program() { install -D -m 0755 "$programs/$1" "$root/$2/$1"; }
# The programs of a board are one file, which goes by the name that it is called by.
call() { mkdir -p "$root/$2" && ln -sfn "$3" "$root/$2/$1"; }
data() { install -D -m 0644 "$1" "$root/$2/$(basename "$1")"; }
script() { install -D -m 0755 "$1" "$root/$2/$(basename "$1")"; }
setting() { [ -e "$root/$2/$(basename "$1")" ] || data "$1" "$2"; }

for part in "$@"; do
    case $part in
    agent)
        program coracle-agent usr/bin
        call coracle-supervisor usr/sbin ../bin/coracle-agent
        call coracled usr/bin coracle-agent
        setting "$here/coracle.toml" etc/coracle
        for profile in "$here"/boards/*.toml; do data "$profile" etc/coracle/boards; done
        for unit in "$here"/systemd/*.service "$here"/systemd/*.slice; do data "$unit" usr/lib/systemd/system; done
        data "$here/sysusers.d/coracle.conf" usr/lib/sysusers.d
        data "$here/tmpfiles.d/coracle.conf" usr/lib/tmpfiles.d
        for rule in "$here"/udev/*.rules; do data "$rule" usr/lib/udev/rules.d; done
        for init in "$here"/sysvinit/*; do script "$init" etc/init.d; done
        data "$here/coracled-tpm.conf" usr/share/doc/coracle
        data "$here/../README.md" usr/share/doc/coracle
        data "$here/../LICENSE" usr/share/doc/coracle
        ;;
    cli)
        program coracle-agent usr/bin
        call coracle usr/bin coracle-agent
        ;;
    console) program coracle-console usr/bin ;;
    release) program coracle-release usr/bin ;;
    *)
        echo "$0: there is no part \`$part\`: agent, cli, console, release" >&2
        exit 2
        ;;
    esac
done
