SUMMARY = "Coracle's fleet console: registry, rollouts, live status"
DESCRIPTION = "For a gateway or a server image, not for the boards that it looks after. Starts a \
Mosquitto of its own, which comes from meta-networking of meta-openembedded."

require recipes-coracle/coracle-workspace.inc

CORACLE_PACKAGES = "coracle-console"

# Only where the layer that has it is there: a broker may also run elsewhere.
RRECOMMENDS:${PN} = "${@bb.utils.contains('BBFILE_COLLECTIONS', 'networking-layer', 'mosquitto', '', d)}"
