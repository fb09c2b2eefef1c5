"""Checks that a checkpoint folder saved by `mlx-gpt train` opens, as it is, in `transformers` and in `mlx-lm`.

    pip install torch transformers mlx-lm       # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop.py CHECKPOINT_FOLDER TEXT_FILE [--mlx-gpt target/debug/mlx-gpt]

For each of the two libraries:

  - the folder opens, and its parameters are the ones that the library's GPT-2 wants: none missing, none left over;
  - the text becomes the token ids that looking up its characters in tokenizer.json gives, and comes back unchanged;
  - the mean loss over the text, every token but the first predicted exactly once, is within 0.0001 of the one that
    `mlx-gpt eval --split all` finds.

Prints the three losses. Where something differs, it says what and exits with status 1.

mlx-lm tries every tokenizer that it opens on the text "a ,b": a vocabulary must have these four characters.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # the folder has to do, without anything from the hub

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import torch
import transformers

TOLERANCE = 1e-4
WINDOWS_AT_ONCE = 16


class Problem(Exception):
    """What is not as it should be, in words for the user."""


def expected_ids(folder, text):
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    unknown = sorted(set(text) - set(vocabulary))
    if unknown:
        raise Problem(f"the checkpoint's vocabulary lacks characters of the text: {unknown}")
    if len(text) < 2:
        raise Problem("the text is too short: a loss takes two characters")
    return [vocabulary[character] for character in text]


def check_tokenizer(library, tokenizer, text, ids):
    encoded = tokenizer.encode(text)
    if encoded != ids:
        raise Problem(f"{library}: the tokenizer does not give each character the id that tokenizer.json has for it")
    if tokenizer.decode(encoded) != text:
        raise Problem(f"{library}: the text, encoded and decoded, is not the same text")


def batches(ids, context):
    """Yields (inputs, targets), both [windows, length], that together predict every token but the first once.

    The windows are consecutive and `context` long; the last one can be shorter, and is then a batch of its own.
    """
    inputs, targets = np.array(ids[:-1]), np.array(ids[1:])
    full = len(inputs) // context * context
    for start in range(0, full, WINDOWS_AT_ONCE * context):
        part = slice(start, min(start + WINDOWS_AT_ONCE * context, full))
        yield inputs[part].reshape(-1, context), targets[part].reshape(-1, context)
    if full < len(inputs):
        yield inputs[None, full:], targets[None, full:]


def transformers_loss(folder, text, ids):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    check_tokenizer("transformers", tokenizer, text, ids)

    model, loading = transformers.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    for complaint, names in loading.items():  # missing_keys, unexpected_keys, ...
        if names:
            raise Problem(f"transformers: {complaint}: {', '.join(map(str, sorted(names)))}")

    model.float().eval()
    total = 0.0
    with torch.inference_mode():
        for inputs, targets in batches(ids, model.config.n_positions):
            logits = model(torch.from_numpy(inputs)).logits
            targets = torch.from_numpy(targets)
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / (len(ids) - 1)


def mlx_lm_loss(folder, text, ids):
    model, tokenizer = mlx_lm.load(str(folder))  # raises an error where parameters are missing or left over
    check_tokenizer("mlx-lm", tokenizer, text, ids)

    model.set_dtype(mx.float32)
    total = 0.0
    for inputs, targets in batches(ids, model.args.n_positions):
        logits = model(mx.array(inputs))
        total += nn.losses.cross_entropy(logits, mx.array(targets), reduction="sum").item()
    return total / (len(ids) - 1)


def mlx_gpt_loss(program, folder, text_file, ids):
    command = [program.absolute(), "eval", "--checkpoint", folder, "--corpus", text_file, "--split", "all", "--json"]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # its own messages go to the terminal
    except FileNotFoundError:
        raise Problem(f"there is no {program}: `cargo build` makes it") from None
    if run.returncode != 0:
        raise Problem(f"{program} eval failed with status {run.returncode}")
    try:
        result = json.loads(run.stdout)
        loss, tokens = result["loss"], result["tokens"]
    except (ValueError, KeyError, TypeError):
        raise Problem(f"{program} eval printed no JSON object with a loss and a number of tokens") from None
    if tokens != len(ids) - 1:
        raise Problem(f"{program} eval predicted {tokens} tokens; the text has {len(ids) - 1} to predict")
    return loss


def opened(library, loss, *arguments):
    """Calls `loss`, turning whatever the library raises into a problem that names the library."""
    try:
        return loss(*arguments)
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"{library} cannot use the folder: {error}") from error


def check(folder, text_file, program):
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / file).is_file():
            raise Problem(f"{folder} has no {file}: it is no checkpoint folder")
    text = text_file.read_bytes().decode("utf-8")  # not read_text(), which would replace "\r\n" by "\n"
    ids = expected_ids(folder, text)

    ours = mlx_gpt_loss(program, folder, text_file, ids)
    theirs = {
        f"transformers {transformers.__version__}": opened("transformers", transformers_loss, folder, text, ids),
        f"mlx-lm {mlx_lm.__version__}": opened("mlx-lm", mlx_lm_loss, folder, text, ids),
    }
    print(f"mean loss over {len(ids) - 1:,} tokens")
    print(f"  {'mlx-gpt':<24}{ours:.6f}")
    for library, loss in theirs.items():
        print(f"  {library:<24}{loss:.6f}   off by {abs(loss - ours):.1e}")
    for library, loss in theirs.items():
        if not abs(loss - ours) <= TOLERANCE:  # put this way round so that NaN is a difference
            raise Problem(f"the loss in {library} differs from mlx-gpt's by more than {TOLERANCE}")


def main():
    parser = argparse.ArgumentParser(description="Checks a checkpoint folder against transformers and mlx-lm.")
    parser.add_argument("folder", metavar="CHECKPOINT_FOLDER", type=Path)
    parser.add_argument("text", metavar="TEXT_FILE", type=Path)
    parser.add_argument("--mlx-gpt", type=Path, default=Path("target/debug/mlx-gpt"), help="default: %(default)s")
    arguments = parser.parse_args()
    # What these would say is checked above; the rest is about a text longer than the context, which is meant.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        check(arguments.folder, arguments.text, arguments.mlx_gpt)
    except (Problem, OSError, UnicodeDecodeError) as problem:
        sys.exit(f"interop: {problem}")


if __name__ == "__main__":
    main()
