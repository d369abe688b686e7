SUMMARY = "A small image that runs Coracle"
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_INSTALL += "packagegroup-coracle"
