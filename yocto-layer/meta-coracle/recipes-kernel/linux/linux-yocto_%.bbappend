# Only when the distribution asks for it: a layer that is merely added changes nobody's kernel, down to its signatures.
require ${@bb.utils.contains('DISTRO_FEATURES', 'coracle', 'linux-yocto-coracle.inc', '', d)}
