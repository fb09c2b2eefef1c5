"""Removes the dependency on libcuda.so.1, the driver's library, from MLX's library, in place; see driver.cpp.

    python3 without_driver.py LIBRARY
"""

import struct
import sys


def without_driver(path):
    """Replaces the dynamic section's entry for libcuda.so.1 by a duplicate of another one, which has no effect."""
    with open(path, "r+b") as library:
        data = library.read()
        assert data[:6] == b"\x7fELF\x02\x01", f"{path}: not a library of 64 bits"
        (offset,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count)]
        # Converts a virtual address to a file offset.
        place = lambda a: next(a - h[3] + h[2] for h in headers if h[0] == 1 and h[3] <= a < h[3] + h[5])
        dynamic = next(h for h in headers if h[0] == 2)
        entries = {at: struct.unpack_from("<QQ", data, at) for at in range(dynamic[2], dynamic[2] + dynamic[5], 16)}
        names = place(next(value for tag, value in entries.values() if tag == 5))
        name = lambda value: data[names + value : data.index(b"\0", names + value)]
        needs = {name(value): (at, value) for at, (tag, value) in entries.items() if tag == 1}
        if driver := needs.pop(b"libcuda.so.1", None):
            library.seek(driver[0] + 8)
            library.write(struct.pack("<Q", next(iter(needs.values()))[1]))


if __name__ == "__main__":
    without_driver(sys.argv[1])
