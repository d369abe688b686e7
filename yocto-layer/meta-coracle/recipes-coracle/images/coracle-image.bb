SUMMARY = "A small image that runs Coracle"
DESCRIPTION = "core-image with the agent and the coracle command, and nothing else of Coracle."
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_INSTALL += "packagegroup-coracle"
