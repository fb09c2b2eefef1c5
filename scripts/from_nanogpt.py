"""Converts a PyTorch checkpoint of nanoGPT or build-nanogpt to a folder that `mlx-gpt import` reads.

    pip install torch safetensors
    python scripts/from_nanogpt.py out-shakespeare-char/ckpt.pt FOLDER --meta data/shakespeare_char/meta.pkl
    mlx-gpt import FOLDER --out models/mine

Only weights and plain values are read; no code in the file is executed. `--meta` is the meta.pkl of a character-level model;
without it, the tokenizer is GPT-2's, which `import` recognises by the vocabulary size, 50257 or 50304.

Linear layers are transposed to GPT-2's layout; missing biases become zeros, which is the same model. nanoGPT computes the exact
GELU, GPT-2 (and build-nanogpt) its tanh approximation: losses differ in the fourth digit.
"""

import argparse
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASK = ".attn.bias"


@dataclass
class GPTConfig:
    """Stands in for build-nanogpt's configuration class, which is pickled instead of a dict."""


class PlainValues(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"unsupported pickle content: {module}.{name}")


def weights(state):
    """The state's tensors with GPT-2's names and layout."""
    state = {name.removeprefix("_orig_mod."): tensor.float() for name, tensor in state.items()}
    head = state.pop("lm_head.weight", None)
    state = {name.removeprefix("transformer."): tensor for name, tensor in state.items() if not name.endswith(MASK)}
    if head is not None and not torch.equal(head, state["wte.weight"]):
        sys.exit("the output head is not tied to the token embedding, as it is in GPT-2")
    for name in list(state):
        if name.endswith(LINEAR):
            state[name] = state[name].T
        bias = name.removesuffix("weight") + "bias"
        if name.endswith("weight") and not name.startswith(("wte", "wpe")) and bias not in state:
            state[bias] = torch.zeros(state[name].shape[-1])
    return {name: tensor.contiguous() for name, tensor in state.items()}


def config(state, settings):
    heads = settings["n_head"] if isinstance(settings, dict) else settings.n_head
    return {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
        "n_layer": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("h.")), "n_head": heads,
        "n_embd": state["wte.weight"].shape[1], "n_positions": state["wpe.weight"].shape[0], "n_ctx": state["wpe.weight"].shape[0],
        "vocab_size": state["wte.weight"].shape[0], "layer_norm_epsilon": 1e-5, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def tokenizer(meta):
    """A tokenizer.json of the characters in a meta.pkl."""
    with open(meta, "rb") as file:
        ids = PlainValues(file).load()["stoi"]
    return {
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "Fuse"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False},
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": ""},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description="Turns a checkpoint of nanoGPT into a folder for mlx-gpt import.")
    parser.add_argument("checkpoint", type=Path, help="ckpt.pt of nanoGPT, or model_*.pt of build-nanogpt")
    parser.add_argument("folder", type=Path, help="folder to write; it must not exist yet")
    parser.add_argument("--meta", type=Path, help="meta.pkl of a model of characters")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists already; give another folder")
    torch.serialization.add_safe_globals([GPTConfig])
    checkpoint = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    state = weights(checkpoint["model"])
    options.folder.mkdir(parents=True)
    save_file(state, options.folder / "model.safetensors", {"format": "pt"})
    files = {"config.json": config(state, checkpoint.get("model_args") or checkpoint["config"])}
    if options.meta:
        files["tokenizer.json"] = tokenizer(options.meta)
        files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, contents in files.items():
        (options.folder / name).write_text(json.dumps(contents, indent=2), encoding="utf-8")
    print(f"{options.folder}: {sum(map(torch.numel, state.values())):,} numbers")


if __name__ == "__main__":
    main()
