"""Symbols of Mach-O files.

symbols.py stubs FRAMEWORKS FOLDER
    writes a text stub of each framework in the list, for the linker
symbols.py count FRAMEWORKS LIBMLX LIBSYSTEM PROGRAM
    lists the libraries that provide a program's symbols; fails if a symbol is missing
"""

import pathlib
import re
import struct
import sys

SYMBOL_TABLE, LOAD_DYLIB = 0x2, (0xC, 0x80000018, 0x8000001F)  # LC_SYMTAB; LC_LOAD_DYLIB, weak, re-exported
EXTERNAL, TYPE, DEBUGGING = 0x01, 0x0E, 0xE0  # N_EXT, N_TYPE, N_STAB


def frameworks(path):
    """The symbols of each framework in the list."""
    listed = {}
    for line in pathlib.Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            name, *symbols = line.split()
            listed.setdefault(name, set()).update(symbols)
    return listed


def stubs(listed, folder):
    """Writes a .tbd file of each framework or library, in the format of Apple's SDK."""
    for name, symbols in listed.items():
        if name.startswith("lib"):
            path, installed = pathlib.Path(folder) / f"{name}.tbd", f"/usr/lib/{name}.dylib"
        else:
            path = pathlib.Path(folder) / f"{name}.framework" / f"{name}.tbd"
            installed = f"/System/Library/Frameworks/{name}.framework/Versions/A/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        exports = ", ".join(f"'{symbol}'" for symbol in sorted(symbols))
        path.write_text(
            "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n"
            f"install-name: '{installed}'\ncurrent-version: 1\n"
            f"exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {exports} ]\n...\n"
        )


def read(path):
    """The exported names of a 64-bit Mach-O file, and (name, library) of each import."""
    data = pathlib.Path(path).read_bytes()
    assert data[:4] == b"\xcf\xfa\xed\xfe", f"{path} is not a 64-bit Mach-O file"
    count = struct.unpack_from("<I", data, 16)[0]
    libraries, table, at = [], None, 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, at)
        if command in LOAD_DYLIB:
            start = at + struct.unpack_from("<I", data, at + 8)[0]
            libraries.append(data[start : data.index(b"\0", start)].decode())
        elif command == SYMBOL_TABLE:
            table = struct.unpack_from("<IIII", data, at + 8)
        at += size
    symbols, length, strings, _ = table
    exported, taken = set(), set()
    for n in range(length):
        name, kind, _, description, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * n)
        if kind & DEBUGGING or not kind & EXTERNAL:
            continue
        text = data[strings + name : data.index(b"\0", strings + name)].decode()
        if kind & TYPE:
            exported.add(text)
        else:
            library = description >> 8  # counted from 1; above 253 it is looked up anywhere
            taken.add((text, libraries[library - 1] if 0 < library <= len(libraries) else None))
    return exported, taken


def count(listed, libmlx, libsystem, program):
    """Prints which libraries provide the program's imports."""
    gives = {
        "libSystem": set(re.findall(r"[\w$.]+", pathlib.Path(libsystem).read_text())),
        "libmlx": read(libmlx)[0],
        "frameworks": set().union(*listed.values()),
    }
    counts, unexplained = dict.fromkeys(gives, 0), []
    _, taken = read(program)
    for symbol, library in sorted(taken, key=str):
        name = re.sub(r"\..*", "", pathlib.PurePosixPath(library or "").name)
        name = "frameworks" if name in listed else name
        if symbol in gives.get(name, ()):
            counts[name] += 1
        else:
            unexplained.append(symbol)
    for symbol in unexplained:
        print(f"mac-check: error: nothing on a Mac provides {symbol}")
    parts = ", ".join(f"{number} of {name}" for name, number in counts.items())
    print(f"mac-check: {len(taken)} symbols: {parts}; {len(unexplained)} unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    command, listed, *rest = sys.argv[1:]
    sys.exit({"stubs": stubs, "count": count}[command](frameworks(listed), *rest))
