SUMMARY = "The coracle command, for people on a board"
DESCRIPTION = "Shows what runs on a board and why, checks the board, and applies a USB stick."

require recipes-coracle/coracle-workspace.inc

CORACLE_PACKAGES = "coracle-cli"
