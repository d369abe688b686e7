# Only when the distribution asks for it: a layer that is merely added changes nobody's kernel.
FILESEXTRAPATHS:prepend := "${THISDIR}/files:"
SRC_URI:append = "${@bb.utils.contains('DISTRO_FEATURES', 'coracle', ' file://coracle.cfg', '', d)}"
