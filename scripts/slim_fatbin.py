"""Removes the GPU code of all architectures but one from a library, which then compresses well. In place, same length.

    python3 slim_fatbin.py LIBRARY 90

A fat binary is a header (magic 0xBA55ED50, version u16, header's size u16, length u64), then entries: kind u16 (1 PTX, 2
machine code), version u16, header's size u32, length u64, and at offset 28 the architecture u32. Removed code is overwritten with zeros.
"""

import struct
import sys

path, keep = sys.argv[1], int(sys.argv[2])
with open(path, "r+b") as library:
    data = library.read()
    kept = at = 0
    while (at := data.find(struct.pack("<I", 0xBA55ED50), at)) >= 0:
        _, _, header, length = struct.unpack_from("<IHHQ", data, at)
        entry, end = at + header, at + header + length
        while entry < end:
            kind, _, header, length = struct.unpack_from("<HHIQ", data, entry)
            (architecture,) = struct.unpack_from("<I", data, entry + 28)
            if (kind, architecture) == (2, keep):
                kept += 1
            else:
                library.seek(entry + header)
                library.write(bytes(length))
            entry += header + length
        at = end
if not kept:
    sys.exit(f"error: {path} has no code for architecture {keep}")
