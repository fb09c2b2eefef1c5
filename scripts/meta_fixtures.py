"""Generates tests/fixtures/meta-protocol-*.pkl: what nanoGPT's data/shakespeare_char/prepare.py leaves beside its token files.

    python scripts/meta_fixtures.py             # or: python scripts/meta_fixtures.py OTHER_FOLDER

A dict of `vocab_size`, `itos` (characters by their ids) and `stoi` (ids by their characters), pickled in each binary
protocol of Python 3. Needs Python alone. It has 300 characters, so that ids take more
than a byte and dicts more than one batch of entries would in small readers.
"""

import pickle
import sys
from pathlib import Path

CHARACTERS = sorted("\n !'-.,:;?" + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "éñ字😀" + "".join(map(chr, range(0x3B1, 0x3B1 + 234))))


def main():
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 300
    meta = {
        "vocab_size": len(CHARACTERS),
        "itos": dict(enumerate(CHARACTERS)),
        "stoi": {character: number for number, character in enumerate(CHARACTERS)},
    }
    for protocol in range(2, 6):
        path = folder / f"meta-protocol-{protocol}.pkl"
        path.write_bytes(pickle.dumps(meta, protocol))
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
