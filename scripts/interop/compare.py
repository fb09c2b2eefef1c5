"""Losses and greedy text in `transformers` and in `mlx-lm`, to compare with mlx-gpt's."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # the folder must suffice, without anything from the hub

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import torch
import transformers
from program import Problem, mlx_gpt_json

WINDOWS_AT_ONCE = 16

# Logits that differ by less are a tie: either token may be chosen.
TIE = 1e-5

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def mlx_gpt_loss(program, folder, text_file, ids):
    """The mean loss of the text `ids` according to `mlx-gpt eval`."""
    result = mlx_gpt_json(
        program, "eval", "--checkpoint", folder, "--corpus", text_file, "--split", "all", "--device", "cpu"
    )
    if result["tokens"] != len(ids) - 1:
        raise Problem(f"mlx-gpt eval predicted {result['tokens']} tokens; the text has {len(ids) - 1} to predict")
    return result["loss"]


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


def transformers_model(folder):
    """Loads a folder's model and checks that no parameter of the library's GPT-2 is missing or unexpected."""
    model, loading = transformers.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    for complaint, names in loading.items():  # missing_keys, unexpected_keys, ...
        if names:
            raise Problem(f"transformers: {complaint}: {', '.join(map(str, sorted(names)))}")
    return model.float().eval()


@torch.inference_mode()
def transformers_loss(model, ids):
    total = 0.0
    for inputs, targets in batches(ids, model.config.n_positions):
        logits = model(torch.from_numpy(inputs), use_cache=False).logits.double()
        targets = torch.from_numpy(targets)
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / (len(ids) - 1)


def mlx_lm_model(folder):
    model, tokenizer = mlx_lm.load(str(folder))  # raises an error if parameters are missing or unexpected
    return model, tokenizer


def mlx_lm_loss(model, ids):
    total = 0.0
    for inputs, targets in batches(ids, model.args.n_positions):
        losses = nn.losses.cross_entropy(model(mx.array(inputs)), mx.array(targets))
        total += float(np.array(losses, dtype=np.float64).sum())
    return total / (len(ids) - 1)


def transformers_next(model):
    """A function from ids to the logits of the next token."""
    with torch.inference_mode():
        return lambda ids: model(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()


def mlx_lm_next(model):
    return lambda ids: np.array(model(mx.array([ids]))[0, -1], dtype=np.float32)


def check_greedy(what, program, folder, tokenizer, next_logits, prompt, context, most=100):
    """Compares greedy text token by token, each after the tokens before it as mlx-gpt has them: up to the context, at
    most `most` tokens. Gives (tokens, ties)."""
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    count = min(most, context - len(ids))
    result = mlx_gpt_json(
        program, "generate", "--checkpoint", folder, "--prompt", prompt, "--temperature", 0,
        "--max-new-tokens", count, "--ignore-eos", "--device", "cpu",
    )  # fmt: skip
    ours, ties = result["samples"][0]["ids"], 0
    if len(ours) != count:
        raise Problem(f"{what}: mlx-gpt generate gave {len(ours)} tokens instead of {count}")
    for token in ours:
        with torch.inference_mode():
            logits = next_logits(ids)
        best = int(logits.argmax())
        if token != best:
            if logits[best] - logits[token] > TIE:
                raise Problem(
                    f"{what}: after {len(ids)} tokens mlx-gpt chose {token}, but {best} is more likely by "
                    f"{logits[best] - logits[token]:.1e}"
                )
            ties += 1
        ids.append(token)
    return count, ties


def check_ids(what, program, folder, tokenizer, text_file, text):
    """The ids of the text in mlx-gpt, which must be those of `tokenizer`, and must read as the text again."""
    ours = mlx_gpt_json(program, "tokenizer", "encode", "--tokenizer", folder, "--file", text_file)["ids"]
    theirs = tokenizer.encode(text, add_special_tokens=False)
    if ours != theirs:
        raise Problem(f"{what}: the text has other ids there than here")
    if tokenizer.decode(theirs, clean_up_tokenization_spaces=False) != text:
        raise Problem(f"{what}: the text, encoded and decoded, is not the same text")
    return ours
