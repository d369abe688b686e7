SUMMARY = "Everything of Coracle that belongs on a board"

inherit packagegroup

RDEPENDS:${PN} = " \
    coracle-agent \
    coracle-cli \
"
