# Only when the distribution asks for it: a layer that is merely added changes nobody's kernel.
# nooelint: oelint.vars.noncoreoverride
FILESEXTRAPATHS:prepend := "${THISDIR}/files:"
# nooelint: oelint.vars.noncoreoverride
SRC_URI:append = "${@bb.utils.contains('DISTRO_FEATURES', 'coracle', ' file://coracle.cfg', '', d)}"
