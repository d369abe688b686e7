SUMMARY = "Everything of Coracle that belongs on a board"
DESCRIPTION = "The two processes and the coracle command; the console is for another machine."

inherit packagegroup

RDEPENDS:${PN} = " \
    coracle-agent \
    coracle-cli \
"
