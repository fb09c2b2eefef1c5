"""Generates tests/fixtures/tokenizer.json, what tests/tokenizer/parity.rs compares against.

    pip install tiktoken==0.14.0 tokenizers regex
    python scripts/tokenizer_fixtures.py
    python scripts/tokenizer_fixtures.py --compare target/debug/mlx-gpt FILE...   # ids of any files, mlx-gpt's and tiktoken's

The ids are tiktoken's: its own split patterns and merging, with the ranks in assets/. The first merges are trained twice,
by a plain loop over a dictionary and by Hugging Face's trainer, which must agree. The reference uses none of this project's
code.

    texts      strings and their ids
    hashes     sha256 of the ids, as little-endian 32-bit numbers, of the built-in corpus and of 10,000 random strings one
               after the other; the test makes the same strings from the same seed
    specials   encodings with special tokens, for each choice of allowed and disallowed: ids, or the error's token
    merges     the first 50 merges trained on the built-in corpus with GPT-2's pattern
"""

import argparse
import collections
import hashlib
import json
import re
import struct
import subprocess
from pathlib import Path

import regex
import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe
from tiktoken_ext import openai_public

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"
STRINGS, SEED, MERGES = 10_000, 1337, 50


def encodings():
    gpt2 = tiktoken.Encoding(
        "gpt2",
        pat_str=openai_public.r50k_pat_str,
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(
            str(ASSETS / "gpt2/vocab.bpe"), str(ASSETS / "gpt2/encoder.json")
        ),
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )
    # cl100k_base() fetches its ranks; give it the file that is here.
    openai_public.load_tiktoken_bpe = lambda url, expected_hash: load_tiktoken_bpe(
        str(ASSETS / "cl100k/cl100k_base.tiktoken"), expected_hash
    )
    return {"gpt2": gpt2, "cl100k": tiktoken.Encoding(**openai_public.cl100k_base())}


class Random:
    """A linear congruential generator (Knuth's MMIX), so that the test can make the same strings."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % limit

    def choice(self, items):
        return items[self.below(len(items))]


SPACES = [" ", " ", " ", "\n", "\r", "\t", "\u000b", "\u0085", "\u00a0", "\u2003", "\u2028", "\u3000"]
DIGITS = ["0", "1", "7", "9", "²", "½", "٣", "९", "Ⅷ", "𝟘"]
APOSTROPHES = ["'", "'", "'", "’", "ʼ", "＇"]
ENDINGS = ["s", "S", "ſ", "t", "T", "ll", "LL", "lL", "ve", "VE", "re", "Re", "m", "d", "D", "x", ""]
CLUSTERS = ["👩‍👩‍👧", "🇨🇭", "e\u0301", "ﷺ", "क्षि", "한국", "\ufeff", "\u200b", "ß", "ŉ", "İ", "K"]


def string(random):
    parts = []
    for _ in range(random.below(24)):
        match random.below(10):
            case 0:
                code = random.below(0x110000)
                parts.append("a" if 0xD800 <= code < 0xE000 else chr(code))
            case 1:
                parts.append(chr(random.below(32)))
            case 2:
                parts.extend(random.choice(SPACES) for _ in range(1 + random.below(8)))
            case 3:
                parts.extend(random.choice(DIGITS) for _ in range(1 + random.below(5)))
            case 4:
                parts.append(random.choice(APOSTROPHES) + random.choice(ENDINGS))
            case 5 | 6:
                base = random.choice([65, 97])
                parts.extend(chr(base + random.below(26)) for _ in range(1 + random.below(8)))
            case 7:
                parts.append(chr(random.below(0x3000)))
            case 8:
                parts.extend(chr(33 + random.below(15)) for _ in range(1 + random.below(4)))
            case 9:
                parts.append(random.choice(CLUSTERS))
    return "".join(parts)


TEXTS = [
    "hello world",
    "",
    " ",
    "\n\n  \n x  ",
    "  \n",
    "\n  ",
    "I'll say it's THEY'RE 'tisn't Iſ'ſ",
    "1234567 12 3456 ½²",
    "def f(x):\n\treturn x ** 2  # naïve\r\n\r\n",
    "字は 한국어 עברית العربية हिन्दी ไทย",
    "👩‍👩‍👧 🇨🇭 e\u0301 \ufeff\u200b\u0000\u0007\u007f",
    "a" * 200,
    " " * 100 + "x",
    "!?" * 40 + "\n\n\r",
    "<|endoftext|> <|fim_prefix|>",
]

SPECIAL_TEXT = "a<|endoftext|>b <|fim_prefix|><|endofprompt|>\n<|endoftext|><|endof"
SPECIAL_CHOICES = [
    ([], []),
    ("all", "all"),
    ("all", []),
    ([], "all"),
    (["<|endoftext|>"], "all"),
    (["<|endoftext|>"], []),
    ([], ["<|endoftext|>"]),
    (["<|endoftext|>"], ["<|endoftext|>"]),
    (["<|endoftext|>", "<|fim_prefix|>", "<|endofprompt|>"], "all"),
    (["<|no such token|>"], []),
]


def special_answer(encoding, allowed, disallowed):
    as_argument = lambda some: some if some == "all" else set(some)
    try:
        ids = encoding.encode(
            SPECIAL_TEXT, allowed_special=as_argument(allowed), disallowed_special=as_argument(disallowed)
        )
        return {"ids": ids}
    except ValueError as error:
        return {"raises": re.search(r"<\|\w+\|>", str(error)).group()}


def digest(lists):
    hasher = hashlib.sha256()
    for ids in lists:
        hasher.update(struct.pack(f"<{len(ids)}I", *ids))
    return hasher.hexdigest()


def first_merges(text):
    """minbpe's loop over distinct chunks. Of equally frequent pairs, the one with the lowest ids."""
    chunks = collections.Counter(regex.findall(openai_public.r50k_pat_str.replace("$", r"\Z"), text))
    words = [(list(chunk.encode()), count) for chunk, count in chunks.items()]
    merges = []
    for new in range(256, 256 + MERGES):
        counts = collections.Counter()
        for ids, count in words:
            for pair in zip(ids, ids[1:]):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for ids, _ in words:
            at = 0
            while at + 1 < len(ids):
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [new]
                at += 1
    return merges


def check_against_hugging_face(text, merges):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + MERGES, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    theirs = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    written = lambda token: byte_level(add_prefix_space=False, use_regex=False).pre_tokenize_str(token.decode())[0][0]
    ours = [[written(tokens[left]), written(tokens[right])] for left, right in merges]
    assert ours == [list(pair) for pair in theirs], "the two independent trainers disagree"


def compare(program, files):
    for name, encoding in encodings().items():
        for file in files:
            text = Path(file).read_bytes().decode()
            command = [program, "tokenizer", "encode", "--tokenizer", name, "--file", file, "--json"]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["ids"]
            assert ours == encoding.encode_ordinary(text), f"{name}: {file}"
        print(f"{name}: {len(files)} files, the same ids")


def make():
    text = (ASSETS / "shakespeare.txt").read_text()
    random = Random(SEED)
    strings = [string(random) for _ in range(STRINGS)]
    merges = first_merges(text)
    check_against_hugging_face(text, merges)
    fixture = {
        "made by": f"scripts/tokenizer_fixtures.py with tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}",
        "merges": merges,
    }
    for name, encoding in encodings().items():
        fixture[name] = {
            "texts": [{"text": text, "ids": encoding.encode_ordinary(text)} for text in TEXTS],
            "specials": [
                {"text": SPECIAL_TEXT, "allowed": allowed, "disallowed": disallowed}
                | special_answer(encoding, allowed, disallowed)
                for allowed, disallowed in SPECIAL_CHOICES
            ],
            "hashes": {
                "corpus": digest([encoding.encode_ordinary(text)]),
                "random strings": digest(encoding.encode_ordinary(text) for text in strings),
            },
        }
    # One item per line, for readable diffs.
    out = json.dumps(fixture, indent=1)
    out = re.sub(r"\[[\s\d,]+\]", lambda ids: re.sub(r"\s+", "", ids.group()), out)
    (ROOT / "tests/fixtures/tokenizer.json").write_text(out + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", nargs="+", metavar=("PROGRAM", "FILE"))
    arguments = parser.parse_args()
    if arguments.compare:
        compare(arguments.compare[0], arguments.compare[1:])
    else:
        make()
