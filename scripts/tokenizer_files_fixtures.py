"""Generates tests/fixtures/tokenizer-files.json, what tests/tokenizer/files.rs compares against: small tokenizers in the file
formats of other libraries, and the ids of those libraries.

    pip install tokenizers==0.23.3 transformers==5.24.0 sentencepiece==0.2.3 protobuf tiktoken==0.14.0
    python scripts/tokenizer_files_fixtures.py

Every file is generated here from the built-in corpus; the reference uses none of this project's code.

    bases           tokenizer.json's that cases change
    json            changes to one of them (as JSON merge patches: RFC 7396), and ids by `tokenizers`: `plain`, where special
                    tokens are text, and `special`, where they are not
    folders         files of a folder, and ids by `transformers`; a text that begins with = stands for one of `shared`
    sentencepiece   models in base64, and ids by `sentencepiece`
    tiktoken        a .tiktoken file, and ids by `tiktoken`
"""

import base64
import copy
import io
import json
import logging
import os
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import sentencepiece
import tiktoken
import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).parent.parent
CORPUS = (ROOT / "assets/shakespeare.txt").read_text()[:60_000]


# --- what cases are made of


def byte_level(size=320):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    return json.loads(tokenizer.to_str())


def metaspace(prepend_scheme):
    """Characters and their merges, with ▁ for a space, as Llama and Mistral have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    words = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    words.train_from_iterator([CORPUS], trainer)
    json_of_words = json.loads(words.to_str())
    result = json.loads(tokenizer.to_str())
    result["model"], result["added_tokens"] = json_of_words["model"], json_of_words["added_tokens"]
    return result


def added(content, id, **flags):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return token | flags


def patched(base, patch):
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


# --- tokenizer.json

TEXTS = [
    "Before we proceed any further, hear me speak.",
    "a<|end|>b <|end|> c\n<|end|>",
    "<|end|><|end|>  the <mask> and\t<mask>\n\n<mask>, x<mask>y <mask>",
    "a <mask> b",
    "the cat the,the_ the",
    "",
    " ",
    "naïve 字 😀 \u00a0<|end|>\u2003x",
    "<|end|",
]


def json_cases():
    end, mask = 320, 321
    byte_cases = {
        "a special token": [added("<|end|>", end)],
        "one that is marked as normalized, where nothing normalizes": [added("<|end|>", end, normalized=True)],
        "two, of which one is marked as normalized": [added("<|end|>", end, normalized=True), added("<mask>", mask)],
        "lstrip": [added("<|end|>", end), added("<mask>", mask, lstrip=True)],
        "rstrip": [added("<|end|>", end), added("<mask>", mask, rstrip=True)],
        "lstrip and rstrip": [added("<|end|>", end, lstrip=True), added("<mask>", mask, lstrip=True, rstrip=True)],
        "single_word": [added("<|end|>", end), added("the", mask, single_word=True)],
        "single_word and lstrip": [added("the", end, single_word=True, lstrip=True, special=False)],
        "an added token that is not special": [added("<|end|>", end), added("<mask>", mask, special=False)],
        "white space that was added": [
            added("  ", end, special=False),
            added("\n\n", mask, special=False, normalized=True),
        ],
        "overlaps, looked for one after the other": [
            added("<|end|>", end, normalized=True),
            added("|><", mask, special=False),
        ],
        "white space that is taken and white space that was added": [
            added("<mask>", end, rstrip=True),
            added("\n", mask, special=False),
        ],
    }
    for name, tokens in byte_cases.items():
        yield name, "byte level", {"added_tokens": tokens}
    tokens = [added("<|end|>", end), added("<mask>", mask, lstrip=True)]
    yield "a space before a text", "byte level", {"added_tokens": tokens, "pre_tokenizer": {"add_prefix_space": True}}
    split = {"type": "Split", "pattern": {"Regex": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}|\s+|."}, "behavior": "Isolated"}
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    yield "a pattern of one's own", "byte level", {
        "added_tokens": tokens,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split | {"invert": False}, bytes_alone]},
    }
    yield "what is normalized", "byte level", {"added_tokens": tokens, "normalizer": {"type": "Lowercase"}}
    for scheme in ["first", "always", "never"]:
        yield f"metaspace, {scheme}", f"metaspace {scheme}", {}
    strip = [added("<unk>", 0), added("<s>", 1, lstrip=True), added("</s>", 2, rstrip=True)]
    yield "metaspace and white space that is taken", "metaspace first", {"added_tokens": strip}


METASPACE_TEXTS = ["a<s>b", "<s> a</s>b  c</s>", " <s>the cat</s> sat\n<s>\nthe <s> mat", "<s>", "Before we <unk> 字 go"]


def make_json(bases):
    for name, base, patch in json_cases():
        tokenizer = Tokenizer.from_str(json.dumps(patched(bases[base], patch)))
        texts = METASPACE_TEXTS if base.startswith("metaspace") else TEXTS
        answers = []
        for text in texts:
            ids = {}
            for key, as_text in [("plain", True), ("special", False)]:
                tokenizer.encode_special_tokens = as_text
                ids[key] = tokenizer.encode(text, add_special_tokens=False).ids
            answers.append({"text": text} | ids)
        yield {"name": name, "base": base, "patch": patch, "texts": answers}


# --- folders


def shared_files(base):
    vocab = base["model"]["vocab"]
    merges = "\n".join(["#version: 0.2"] + [" ".join(merge) for merge in base["model"]["merges"]]) + "\n"
    behind = {token: id for token, id in vocab.items()}
    behind["<|endoftext|>"] = len(behind)
    before = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    before |= {token: id + 4 for token, id in vocab.items()}
    whole = patched(base, {"added_tokens": [added("<s>", 320)]})
    return {"=merges": merges, "=vocabulary": behind, "=vocabulary after names": before, "=tokenizer": whole}


def folder_cases():
    gpt2 = {"vocab.json": "=vocabulary", "merges.txt": "=merges"}
    roberta = {"vocab.json": "=vocabulary after names", "merges.txt": "=merges"}
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    plain = dict(lstrip=False, rstrip=False, single_word=False, normalized=False)
    own = {"tokenizer_class": "GPT2Tokenizer"}
    yield "two files", gpt2
    yield "names in a map", roberta | {"special_tokens_map.json": named}
    yield "names as objects", roberta | {
        "special_tokens_map.json": {
            name: {"content": token, **plain, "lstrip": name == "pad_token"} for name, token in named.items()
        }
    }
    yield "names in the configuration", roberta | {"tokenizer_config.json": own | named}
    yield "names that the vocabulary has not", gpt2 | {
        "special_tokens_map.json": {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    }
    yield "added tokens", gpt2 | {"added_tokens.json": {"<bot>": 322, "<pad>": 321}}
    yield "added tokens, some of them named", gpt2 | {
        "added_tokens.json": {"<bot>": 321, "<pad>": 322},
        "special_tokens_map.json": {"pad_token": "<pad>", "additional_special_tokens": ["<bot>", "<s>"]},
    }
    yield "a decoder of added tokens", gpt2 | {
        "tokenizer_config.json": own
        | {
            "eos_token": "<pad>",
            "added_tokens_decoder": {
                "320": {"content": "<|endoftext|>", **plain, "special": True},
                "321": {"content": "<pad>", **plain, "special": True},
                "322": {"content": "<bot>", **plain, "rstrip": True, "special": False},
            },
        },
        "added_tokens.json": {"<s>": 323},
        "special_tokens_map.json": {"eos_token": "</s>"},
    }
    yield "a space before a text", gpt2 | {"tokenizer_config.json": own | {"add_prefix_space": True}}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    yield "one file, and names beside it", {
        "tokenizer.json": "=tokenizer",
        "tokenizer_config.json": fast | {"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<bot>"]},
    }
    yield "one file, and a map beside it", {
        "tokenizer.json": "=tokenizer",
        "tokenizer_config.json": fast,
        "special_tokens_map.json": {"eos_token": "</s>", "pad_token": {"content": "<pad>", **plain, "rstrip": True}},
    }
    yield "one file, and tokens of other names", {
        "tokenizer.json": "=tokenizer",
        "tokenizer_config.json": fast | {"image_token": "<pad>", "extra_special_tokens": {"bot_token": "<bot>"}},
    }


FOLDER_TEXTS = [
    "a</s>b",
    "<s>Hello</s>  <pad> x <mask>",
    "<bot>hi<pad>",
    "Hello world",
    " Hello<|endoftext|>world <bot> x",
]


def write_folder(folder, files, shared):
    for name, contents in files.items():
        if isinstance(contents, str):
            contents = shared[contents]
        text = contents if isinstance(contents, str) else json.dumps(contents)
        (Path(folder) / name).write_text(text)


def make_folders(shared):
    for name, files in folder_cases():
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, files | {"config.json": {"model_type": "gpt2"}}, shared)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            texts = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)} for text in FOLDER_TEXTS]
        yield {"name": name, "files": files, "texts": texts}


# --- sentencepiece

# A table of characters as `nmt_nfkc` is one, but small.
RULES = {"\ufb01": "fi", "\uff21": "A", "\u00a0": " ", "\t": " ", "e\u0301": "\u00e9", "\u200b": ""}

SENTENCEPIECE_TEXTS = [
    "Before we proceed any further, hear me speak.",
    "",
    " ",
    "  two  spaces   before and after  ",
    "caf\u00e9 e\u0301 \ufb01re \uff21\u00a0x\ty \u200b",
    "字 😀 naïve",
    "<s>a</s> <0x41> <unk>",
    "line\nline\n\n  line\n",
    "user <tool> of <tool>s▁▁here<sep>there",
    "aaaa bbbbbb",
]


def sentencepiece_cases():
    common = dict(vocab_size=180, character_coverage=0.995, normalization_rule_name="identity")
    yield "unigram", common | dict(model_type="unigram")
    yield "bpe", common | dict(model_type="bpe")
    yield "char", common | dict(model_type="char", vocab_size=60)
    yield "unigram with bytes", common | dict(model_type="unigram", vocab_size=400, byte_fallback=True)
    yield "bpe with bytes", common | dict(
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
    )
    yield "bpe without a space before", common | dict(
        model_type="bpe", add_dummy_prefix=False, remove_extra_whitespaces=False
    )
    yield "pieces of the user's, bpe", common | dict(
        model_type="bpe", user_defined_symbols=["<tool>", "▁▁", "<sep>"], control_symbols=["<ctl>"], pad_id=3
    )
    yield "pieces of the user's, unigram", common | dict(
        model_type="unigram", user_defined_symbols=["<tool>", "<sep>"], unk_id=2, bos_id=1, eos_id=0
    )
    yield "pieces over words", common | dict(model_type="unigram", split_by_whitespace=False)
    yield "a table of characters", common | dict(model_type="bpe", rules=True)


def make_sentencepiece():
    for name, options in sentencepiece_cases():
        options = dict(options)
        with tempfile.TemporaryDirectory() as folder:
            if options.pop("rules", False):
                rules = Path(folder) / "rules.tsv"
                points = lambda text: " ".join(f"{ord(c):X}" for c in text)
                rules.write_text("".join(f"{points(old)}\t{points(new)}\n" for old, new in RULES.items()))
                options["normalization_rule_tsv"] = str(rules)
                options.pop("normalization_rule_name")
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(CORPUS.splitlines()), model_writer=model, minloglevel=2, **options
            )
        model = model.getvalue()
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        texts = [{"text": text, "ids": processor.encode(text)} for text in SENTENCEPIECE_TEXTS]
        yield {"name": name, "model": base64.b64encode(model).decode(), "texts": texts}


# --- tiktoken


def make_tiktoken(base):
    bytes_of = {character: byte for byte, character in enumerate_characters()}
    ranks = {}
    for token, id in sorted(base["model"]["vocab"].items(), key=lambda entry: entry[1]):
        ranks[bytes(bytes_of[character] for character in token)] = id
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    cl100k = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    nanochat = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
    for name, pattern, specials in [
        ("GPT-4's pattern", cl100k, {}),
        ("a pattern of one's own", nanochat, {"<|bos|>": 320, "<|end|>": 330}),
    ]:
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        texts = TEXTS + ["I'll pay 12345 now!\n\n  <|bos|>x"]
        answers = [{"text": text, "ids": encoding.encode(text, allowed_special="all")} for text in texts]
        own = name != "GPT-4's pattern"
        yield {
            "name": name,
            "file": base64.b64encode(lines.encode()).decode(),
            "pattern": pattern if own else None,
            "specials": specials,
            "texts": answers,
        }


def enumerate_characters():
    """GPT-2's character for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    yield from ((byte, chr(byte)) for byte in printable)
    yield from ((byte, chr(0x100 + number)) for number, byte in enumerate(others))


def main():
    logging.disable(logging.WARNING)
    bases = {"byte level": byte_level()}
    bases |= {f"metaspace {scheme}": metaspace(scheme) for scheme in ["first", "always", "never"]}
    shared = shared_files(bases["byte level"])
    made_by = " ".join(
        f"{module.__name__} {module.__version__}" for module in [tokenizers, transformers, sentencepiece, tiktoken]
    )
    fixture = {
        "made by": f"scripts/tokenizer_files_fixtures.py with {made_by}",
        "bases": bases,
        "json": list(make_json(bases)),
        "shared": shared,
        "folders": list(make_folders(shared)),
        "sentencepiece": list(make_sentencepiece()),
        "tiktoken": list(make_tiktoken(bases["byte level"])),
    }
    (ROOT / "tests/fixtures/tokenizer-files.json").write_text(dumps(fixture) + "\n")


def dumps(value, depth=0):
    """JSON with one line per case, and per text of a case, for readable diffs."""
    indent = " " * (depth + 1)
    if depth < 2 and isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {dumps(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(indent + item for item in items) + "\n" + " " * depth + "}"
    if depth < 2 and isinstance(value, list) and value:
        return "[\n" + ",\n".join(indent + dumps(item, depth + 1) for item in value) + "\n" + " " * depth + "]"
    if isinstance(value, dict) and "texts" in value:
        texts = ",\n".join(indent + json.dumps(text) for text in value["texts"])
        rest = json.dumps({key: item for key, item in value.items() if key != "texts"})
        return f'{rest[:-1]}, "texts": [\n{texts}]}}'
    return json.dumps(value)


if __name__ == "__main__":
    main()
