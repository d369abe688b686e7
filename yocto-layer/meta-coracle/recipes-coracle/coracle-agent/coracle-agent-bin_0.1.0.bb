require coracle-agent.inc

SECTION = "console/utils"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=1836efb2eb779966696f473ee8540542"

PROVIDES += "coracle-agent"

# For series whose Rust is too old: the program of `make arm`, static, and settings, units and scripts of the tree.
SRC_URI = ""

inherit externalsrc

EXTERNALSRC = "${CORACLE_SOURCE}"
EXTERNALSRC_SYMLINKS = ""
EXTERNALSRC_BUILD = "${WORKDIR}/build"

# A folder with a coracle-agent that was built for the machine; without it this recipe is for no machine.
CORACLE_PROGRAMS ?= ""
COMPATIBLE_HOST = "${@'.*' if d.getVar('CORACLE_PROGRAMS') else 'null'}"

RPROVIDES:${PN} = "coracle-agent"
RCONFLICTS:${PN} = "coracle-agent"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${CORACLE_PROGRAMS}/coracle-agent ${D}${bindir}/
}
do_install[file-checksums] += "${CORACLE_PROGRAMS}/coracle-agent:True"

# It was stripped and linked where it was built. Whether it is for this machine is still looked at.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:coracle-program += "already-stripped ldflags"
