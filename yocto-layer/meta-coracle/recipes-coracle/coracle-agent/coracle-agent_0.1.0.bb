require coracle-agent.inc
require recipes-coracle/coracle-workspace.inc

CORACLE_PACKAGES = "coracle-agent"

# coracle-agent-bin has the same packages: where CORACLE_PROGRAMS is set this one is for no machine.
COMPATIBLE_HOST:class-target = "${@'null' if d.getVar('CORACLE_PROGRAMS') else '.*'}"

# For a build that is tried without a board: the programs alone, for the machine that builds.
BBCLASSEXTEND = "native"
