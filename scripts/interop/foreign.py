"""Compares with transformers, peft, mlx-lm and nanoGPT on less common variants of their formats.

    pip install torch transformers peft mlx-lm      # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/foreign.py TEXT_FILE WORK [--mlx-gpt target/debug/mlx-gpt]

A GPT-2 with random weights, whose vocabulary is padded beyond its tokenizer's, and

  - adapters with every kind of layer selection in scripts/format_fixtures.py: the loss in peft;
  - the output of `mlx_lm convert`, quantized or not: the loss in mlx-lm;
  - several eos tokens, in either configuration file: the tokens of transformers' generate;
  - the same weights in nanoGPT's format, converted by scripts/from_nanogpt.py: the loss in transformers.

Losses must be within 1e-5.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before compare, which format_fixtures also needs

import peft
from compare import (
    check_ids, mlx_gpt_loss, mlx_lm, mlx_lm_loss, mlx_lm_model, torch, transformers, transformers_loss, transformers_model,
)  # fmt: skip
from format_fixtures import ADAPTERS
from imports import byte_tokenizer
from program import Problem, arguments, check_close, main, mlx_gpt, mlx_gpt_json
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

TOLERANCE = 1e-5
TOKENS, VOCABULARY = 257, 320
LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def write_base(folder):
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, n_positions=32, n_ctx=32, vocab_size=VOCABULARY, initializer_range=0.2,
        bos_token_id=256, eos_token_id=256, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer(folder)
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def imported(options, name):
    out = options.work / f"{name}-in"
    mlx_gpt(options.mlx_gpt, "import", options.work / name, "--out", out)
    return out


def compare(options, name, ids, theirs):
    ours = mlx_gpt_loss(options.mlx_gpt, imported(options, name), options.text_file, ids)
    check_close(f"{name}: loss", ours, theirs, TOLERANCE)
    print(f"  {name}: loss over {len(ids) - 1:,} tokens {theirs:.7f}, here {ours:.7f}, off by {abs(ours - theirs):.1e}")


def check_adapters(options, base, ids):
    for name, choice in ADAPTERS.items():
        model = peft.get_peft_model(transformers_model(base), peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, **choice}))
        with torch.no_grad():
            for parameter in (p for n, p in model.named_parameters() if "lora_B" in n):
                parameter.copy_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(options.work / name)
        compare(options, name, ids, transformers_loss(model.eval(), ids))


def check_mlx_lm(options, base, ids):
    # mlx-lm wants GPT2Model's names.
    bare = options.work / "bare"
    shutil.copytree(base, bare)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(tensors, bare / "model.safetensors", {"format": "pt"})
    for name, how in {
        "mlx-lm": {},
        "mlx-lm-q4": {"quantize": True},
        "mlx-lm-q8": {"quantize": True, "q_bits": 8, "q_group_size": 32},
        "mlx-lm-q3": {"quantize": True, "q_bits": 3},
    }.items():
        out = options.work / name
        mlx_lm.convert(str(bare), mlx_path=str(out), **how)
        compare(options, name, ids, mlx_lm_loss(mlx_lm_model(out)[0], ids))


def check_ends(options, base):
    prompt = "First Citizen"
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    inputs = torch.tensor([tokenizer.encode(prompt)])
    most = 32 - inputs.shape[1]

    def generated(folder):
        model = GPT2LMHeadModel.from_pretrained(folder)
        rest = {"max_new_tokens": most, "do_sample": False, "pad_token_id": 0, "suppress_tokens": list(range(TOKENS, VOCABULARY))}
        return model.generate(inputs, attention_mask=torch.ones_like(inputs), **rest)[0, inputs.shape[1] :].tolist()

    free = generated(base)
    one, other = free[2], free[5]
    for number, (config, generation) in enumerate(
        [({"eos_token_id": [other, one]}, None), ({"eos_token_id": other}, {"eos_token_id": [256, one]})]
    ):
        folder = options.work / f"ends-{number}"
        shutil.copytree(base, folder)
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        (folder / "generation_config.json").unlink()
        if generation:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        out, exported = imported(options, folder.name), options.work / f"{folder.name}-out"
        mlx_gpt(options.mlx_gpt, "export", "--checkpoint", out, "--format", "hf", "--out", exported)
        theirs = generated(folder)
        sample = mlx_gpt_json(
            options.mlx_gpt, "generate", "--checkpoint", out, "--prompt", prompt, "--temperature", 0, "--max-new-tokens", most,
            "--device", "cpu",
        )["samples"][0]  # fmt: skip
        if not sample["ids"] == theirs == generated(exported):
            raise Problem(f"{folder.name}: {sample['ids']} here, {theirs} in transformers, {generated(exported)} of the export")
        print(f"  {folder.name}: a text of {len(theirs)} tokens, as in transformers; {len(free)} without an end")


def check_nanogpt(options, base, ids):
    model = transformers_model(base)
    state = {}
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            state[f"_orig_mod.{name}"] = tensor.T.contiguous() if name.endswith(LINEAR) else tensor
    state["_orig_mod.lm_head.weight"] = state["_orig_mod.transformer.wte.weight"]
    file, folder = options.work / "ckpt.pt", options.work / "nanogpt"
    torch.save({"model": state, "model_args": {"n_head": 2}, "iter_num": 1}, file)
    script = Path(__file__).resolve().parent.parent / "from_nanogpt.py"
    subprocess.run([sys.executable, str(script), str(file), str(folder)], check=True, stdout=subprocess.DEVNULL)
    byte_tokenizer(folder)
    compare(options, "nanogpt", ids, transformers_loss(model, ids))


def check(options):
    text = options.text_file.read_bytes().decode("utf-8")
    torch.manual_seed(0)
    base = options.work / "base"
    write_base(base)
    out = imported(options, "base")
    ids = check_ids("base", options.mlx_gpt, out, transformers.AutoTokenizer.from_pretrained(out), options.text_file, text)
    check_adapters(options, base, ids)
    check_mlx_lm(options, base, ids)
    check_ends(options, base)
    check_nanogpt(options, base, ids)


if __name__ == "__main__":
    main(check, arguments("Compares less usual forms of foreign formats.", "TEXT_FILE", "WORK").parse_args())
