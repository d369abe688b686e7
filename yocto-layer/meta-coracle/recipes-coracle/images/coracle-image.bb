SUMMARY = "A small image that runs Coracle"
DESCRIPTION = "core-image with the agent and the coracle command, and nothing else of Coracle."
LICENSE = "Apache-2.0"

inherit core-image features_check

# Without it the kernel is built without the fragment, and nothing holds the apps' limits.
REQUIRED_DISTRO_FEATURES = "coracle"

IMAGE_INSTALL += "packagegroup-coracle"
