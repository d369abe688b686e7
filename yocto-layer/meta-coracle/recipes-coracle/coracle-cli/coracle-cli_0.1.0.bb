SUMMARY = "The coracle command, for people on a board"

require recipes-coracle/coracle-workspace.inc

CORACLE_PACKAGES = "coracle-cli"
