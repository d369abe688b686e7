"""Applies a tar-diff of version 1, for the tests: written from the format's public description alone (containers/tar-diff,
file-format.md), by nobody's code. `tar_patch.py DIFF BASE` writes the tar to its standard output; `zstd` must be on the path."""

import os
import subprocess
import sys

DATA, OPEN, COPY, ADD_DATA, SEEK = range(5)


def main(diff, base):
    with open(diff, "rb") as file:
        head, packed = file.read(8), file.read()
    if head != b"tardf1\n\0":
        sys.exit(f"no tar-diff of version 1: {head!r}")
    stream = subprocess.run(["zstd", "-dcq"], input=packed, stdout=subprocess.PIPE, check=True).stdout
    at, source, out = 0, None, sys.stdout.buffer
    while at < len(stream):
        operation, at = stream[at], at + 1
        size = shift = 0
        while True:
            byte, at = stream[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        data = b""
        if operation in (DATA, OPEN, ADD_DATA):
            data, at = stream[at : at + size], at + size
            if len(data) != size:
                sys.exit("the diff ends within an operation's data")
        if operation == DATA:
            out.write(data)
        elif operation == OPEN:
            path = os.path.join(os.fsencode(base), data)
            if data.startswith(b"/") or b".." in data.split(b"/") or os.path.islink(path):
                sys.exit(f"{data!r} leads out of the base")
            source = open(path, "rb")
        elif operation == SEEK:
            source.seek(size)
        elif operation in (COPY, ADD_DATA):
            old = source.read(size)
            if len(old) != size:
                sys.exit("a source file is too short")
            out.write(old if operation == COPY else bytes((a + b) & 255 for a, b in zip(old, data)))
        else:
            sys.exit(f"operation {operation} is not known")


main(*sys.argv[1:])
