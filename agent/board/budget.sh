#!/bin/sh
# Holds programs that were built for boards against the budget of a board's flash, and fails where one is over it, or where kernels
# of 64-bit ARM with large pages would not load one.
#
#   agent/board/budget.sh PROGRAM…
set -eu
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
# Stripped. 6 MiB is what the boards that it is for have room for, which are ARM; an x86-64's instructions take more, and so
# does a static program there, with the C library in it, for a board where nobody else maps that.
arm=6291456
x86_64=7208960
x86_64_static=8126464
over=0
for program in "$@"; do
    size=$(stat -c %s "$program")
    machine=$(LC_ALL=C readelf -h "$program" | sed -n 's/^ *Machine: *//p')
    [ -n "$machine" ] || { echo "$program: no program: readelf finds no header in it" >&2; exit 1; }
    if LC_ALL=C readelf -SW "$program" | grep -q ' \.symtab '; then
        echo "$program ($machine): not stripped, so its size says nothing: unset CARGO_PROFILE_RELEASE_STRIP and build again" >&2
        exit 1
    fi
    if [ "$machine" = AArch64 ]; then
        LC_ALL=C readelf -lW "$program" | while read -r type offset address _ _ _ rest; do
            [ "$type" = LOAD ] || continue
            [ $((${rest##* })) -ge 65536 ] && [ $(((address - offset) % 65536)) -eq 0 ] || {
                echo "$program ($machine): its part at $address is at $offset of the file, aligned to ${rest##* }: no kernel with pages of" \
                    "64 KiB loads that; link with -z max-page-size=65536 (agent/board/build.rs)" >&2
                exit 1
            }
        done
    fi
    case $machine in *X86-64*) budget=$x86_64 ;; *) budget=$arm ;; esac
    if [ "$budget" = "$x86_64" ] && ! LC_ALL=C readelf -lW "$program" | grep -q ' INTERP '; then
        budget=$x86_64_static
    fi
    if [ "$size" -gt "$budget" ]; then
        echo "$program ($machine): $size bytes, $((size - budget)) more than its budget of $budget:" \
            "see docs/decisions/0006-one-file-on-the-board.md for what keeps it small and how to find what grew" >&2
        over=1
    else
        echo "$program ($machine): $size bytes, $((budget - size)) below its budget of $budget"
    fi
done
exit $over
