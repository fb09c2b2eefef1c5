"""Generates tests/fixtures/formats.json and the folders beside it, for the Rust tests of other programs' formats.

    pip install torch transformers peft mlx-lm      # outside macOS also: pip install "mlx[cpu]"
    python scripts/format_fixtures.py               # or: python scripts/format_fixtures.py OTHER_FOLDER

The model is the one of gpt2-parameters.safetensors (scripts/fixtures.py), with random adapters or more rows of the token
embedding; the losses and the texts are those of transformers, peft and mlx-lm.

adapters/NAME/      what peft's save_pretrained writes, in float16 so that it is small and exact: adapters of rank 1 whose
                    layers are chosen in the ways that `target_modules` and `exclude_modules` offer
mlx-lm/             what `mlx_lm convert -q` makes of a smaller GPT-2: 4 bits, positions too
formats.json
    ids             random tokens; `loss` and `losses` are mean cross-entropies over all but the first, in windows of the
                    context that lie end to end
    loss            of the model as it is
    adapters.NAME   the loss with those adapters
    mlx_lm          the loss of mlx-lm's model, and the tokens that it finds the most likely after `prompt`
    padded          `rows` more rows of the token embedding: row i is four times row i, so that the model often finds an
                    id without text the most likely one; the loss, and the most likely tokens after `prompt` with those
                    ids suppressed
    ends            the most likely tokens after `prompt`, at most 24, with `config.json` and `generation_config.json` naming
                    tokens that end a text: transformers' generate
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import mlx.core as mx
import mlx.nn
import mlx_lm
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

SEED = 1337
CONTEXT, VOCABULARY, PADDING, MOST = 24, 65, 47, 24
REPOSITORY = Path(__file__).resolve().parent.parent
SHAPE = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)

ADAPTERS = {
    "all-linear": dict(target_modules="all-linear"),
    "regular-expression": dict(target_modules=r"transformer\.h\.\d\.(attn\.c_attn|mlp\.c_(?!proj).*)"),
    "excluded": dict(target_modules=["c_attn", "c_proj"], exclude_modules=["mlp.c_proj"]),
    "excluded-by-expression": dict(target_modules="all-linear", exclude_modules=r".*\.h\.[02]\..*"),
    "some-blocks": dict(target_modules=["c_attn", "c_fc"], layers_to_transform=[0, 2]),
    "rank-stabilized": dict(target_modules=["c_attn"], use_rslora=True, r=2),
}

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def base_model():
    config = GPT2Config(n_layer=3, n_head=5, n_embd=80, n_positions=CONTEXT, **SHAPE)
    model = GPT2LMHeadModel(config).eval()
    stored = load_file(REPOSITORY / "tests/fixtures/gpt2-parameters.safetensors")
    missing = model.transformer.load_state_dict({name: array.float() for name, array in stored.items()}, strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    return model


def windows(ids, context):
    for start in range(0, len(ids) - 1, context):
        inputs = ids[start : min(start + context, len(ids) - 1)]
        yield inputs, ids[start + 1 : start + 1 + len(inputs)]


@torch.inference_mode()
def loss_of(model, ids):
    total = 0.0
    for inputs, targets in windows(ids, CONTEXT):
        logits = model(torch.tensor([inputs]), use_cache=False).logits[0].double()
        total += cross_entropy(logits, torch.tensor(targets), reduction="sum").item()
    return total / (len(ids) - 1)


def greedy(model, prompt, **options):
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_length=MOST, do_sample=False, pad_token_id=0,
        **options,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def save_adapters(folder, generator, ids):
    losses = {}
    base = folder.parent / "base"  # what adapter_config.json will name, from where the adapters are
    for name, options in ADAPTERS.items():
        model = peft.get_peft_model(base_model(), peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 1, **options}))
        with torch.no_grad():
            for parameter in (p for n, p in model.named_parameters() if "lora_" in n):
                parameter.copy_((0.3 * torch.randn(parameter.shape, generator=generator)).half())
        losses[name] = loss_of(model.eval(), ids)
        place = folder / name
        model.save_pretrained(place)
        (place / "README.md").unlink()
        tensors = load_file(place / "adapter_model.safetensors")
        save_file({n: t.half().contiguous() for n, t in tensors.items()}, place / "adapter_model.safetensors", {"format": "pt"})
        config = json.loads((place / "adapter_config.json").read_text())
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # a set, in an order that changes from run to run
        config["base_model_name_or_path"] = os.path.relpath(base, place)
        (place / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return losses


def char_tokenizer():
    characters = sorted(set((REPOSITORY / "assets/shakespeare.txt").read_text(encoding="utf-8")))
    assert len(characters) == VOCABULARY
    return {
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "Fuse"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False},
        "model": {"type": "WordLevel", "vocab": {c: i for i, c in enumerate(characters)}, "unk_token": ""},
    }  # fmt: skip


def save_mlx_lm(folder, ids, prompt):
    context = 16
    with tempfile.TemporaryDirectory() as work:
        source, out = Path(work, "source"), Path(work, "out")
        config = GPT2Config(n_layer=1, n_head=2, n_embd=32, n_positions=context, initializer_range=0.3, **SHAPE)
        model = GPT2LMHeadModel(config)
        source.mkdir()
        # mlx-lm wants GPT2Model's names, and n_ctx.
        save_file(model.transformer.state_dict(), source / "model.safetensors", {"format": "pt"})
        (source / "config.json").write_text(json.dumps({**config.to_dict(), "n_ctx": context, "dtype": "float32"}))
        (source / "tokenizer.json").write_text(json.dumps(char_tokenizer()))
        (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
        mlx_lm.convert(str(source), mlx_path=str(out), quantize=True, q_bits=4, q_group_size=32)
        folder.mkdir()
        for name in "config.json", "model.safetensors":
            shutil.copy(out / name, folder / name)
        model, _ = mlx_lm.load(str(out))
    total = 0.0
    for inputs, targets in windows(ids, context):
        losses = mlx.nn.losses.cross_entropy(model(mx.array([inputs])), mx.array([targets]))
        total += float(np.array(losses, dtype=np.float64).sum())
    best = list(prompt)
    while len(best) < context:
        best.append(int(mx.argmax(model(mx.array([best]))[0, -1])))
    return {"loss": total / (len(ids) - 1), "greedy": best[len(prompt) :]}


def padded(model, ids, prompt):
    config = GPT2Config(**{**model.config.to_dict(), "vocab_size": VOCABULARY + PADDING})
    larger = GPT2LMHeadModel(config).eval()
    state = dict(model.transformer.state_dict())
    state["wte.weight"] = torch.cat([state["wte.weight"], 4 * state["wte.weight"][:PADDING]])
    larger.transformer.load_state_dict(state)
    free, suppressed = greedy(larger, prompt), greedy(larger, prompt, suppress_tokens=list(range(65, 65 + PADDING)))
    assert any(token >= VOCABULARY for token in free), "the ids without text are not attractive"
    return {"rows": PADDING, "loss": loss_of(larger, ids), "greedy": suppressed}


def ends(model, prompt):
    free = greedy(model, prompt)
    later = [token for token in free if token != free[0]]
    one, other = later[0], next(token for token in later if token != later[0])
    cases = []
    for config, generation in [
        ({}, None),
        ({"eos_token_id": one}, None),
        ({"eos_token_id": [other, one]}, None),
        ({"eos_token_id": one}, {"eos_token_id": [other, 64]}),
        ({"eos_token_id": None}, {"eos_token_id": other}),
        ({"eos_token_id": 50256}, None),
    ]:
        with tempfile.TemporaryDirectory() as work:
            model.save_pretrained(work)
            path = Path(work, "config.json")
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
            Path(work, "generation_config.json").unlink()
            if generation is not None:
                Path(work, "generation_config.json").write_text(json.dumps(generation))
            cases.append(
                {"config": config, "generation_config": generation, "ids": greedy(GPT2LMHeadModel.from_pretrained(work), prompt)}
            )
    return cases


def main():
    parser = argparse.ArgumentParser(description="Makes what the Rust tests of foreign formats compare with.")
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "tests/fixtures", help="default: tests/fixtures")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    mx.random.seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    for name in "adapters", "mlx-lm":
        shutil.rmtree(folder / name, ignore_errors=True)

    ids = torch.randint(VOCABULARY, (100,), generator=generator).tolist()
    prompt = ids[:4]
    model = base_model()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, mlx-lm {mlx_lm.__version__}"
    result = {
        "made_by": f"{versions}, seed {SEED}",
        "ids": ids,
        "prompt": prompt,
        "loss": loss_of(model, ids),
        "adapters": save_adapters(folder / "adapters", generator, ids),
        "mlx_lm": save_mlx_lm(folder / "mlx-lm", ids, prompt),
        "padded": padded(model, ids, prompt),
        "ends": ends(model, prompt),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (folder / "formats.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
