"""Generates tests/fixtures/gpt2-activations.safetensors: the activations of `transformers`' GPT-2, by PyTorch's forward hooks.

    pip install torch transformers safetensors numpy
    python scripts/hook_fixtures.py

The model is that of scripts/fixtures.py, read from gpt2-parameters.safetensors; the text is the first row of its batch. Inputs and
outputs of modules are taken by hooks; the scores are computed from the queries and keys that a hook gave, the pattern is the
attention module's own (attn_implementation="eager"). Names are those of TransformerLens without `hook_`.

NAME                        float32, without the axis of the batch
patched.NAME                float32 [24, 65], the logits when that activation is replaced at position PATCHED by what it is at
                            position SOURCE of the batch's second row; only for some names
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 3, 5, 80, 24, 65
PATCHED, SOURCE = 7, 3


def load_model():
    config = GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config).eval()
    parameters = load_file(FIXTURES / "gpt2-parameters.safetensors")
    state = {f"transformer.{name}": tensor.float() for name, tensor in parameters.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def module_outputs(model):
    """Modules whose output is an activation, by its name."""
    gpt = model.transformer
    modules = {"embed": gpt.wte, "pos_embed": gpt.wpe, "ln_final.normalized": gpt.ln_f}
    for layer, block in enumerate(gpt.h):
        modules |= {
            f"blocks.{layer}.ln1.normalized": block.ln_1,
            f"blocks.{layer}.ln2.normalized": block.ln_2,
            f"blocks.{layer}.attn_out": block.attn.c_proj,
            f"blocks.{layer}.mlp.pre": block.mlp.c_fc,
            f"blocks.{layer}.mlp.post": block.mlp.act,
            f"blocks.{layer}.mlp_out": block.mlp,
        }
    return modules


def activations(model, ids):
    seen, handles = {}, []
    for name, module in module_outputs(model).items():
        handles.append(module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.clone())))

    def queries_keys_values(layer):
        def hook(_, __, out):
            for name, part in zip("qkv", out.split(WIDTH, dim=-1)):
                seen[f"blocks.{layer}.attn.{name}"] = part.reshape(*part.shape[:2], HEADS, -1).clone()

        return hook

    for layer, block in enumerate(model.transformer.h):
        at = f"blocks.{layer}."
        handles += [
            block.register_forward_pre_hook(lambda _, a, at=at: seen.__setitem__(at + "resid_pre", a[0].clone())),
            block.ln_2.register_forward_pre_hook(lambda _, a, at=at: seen.__setitem__(at + "resid_mid", a[0].clone())),
            block.attn.c_attn.register_forward_hook(queries_keys_values(layer)),
            block.attn.c_proj.register_forward_pre_hook(
                lambda _, a, at=at: seen.__setitem__(at + "attn.z", a[0].reshape(*a[0].shape[:2], HEADS, -1).clone())
            ),
        ]
        after = model.transformer.h[layer + 1] if layer + 1 < LAYERS else model.transformer.ln_f
        handles.append(
            after.register_forward_pre_hook(lambda _, a, at=at: seen.__setitem__(at + "resid_post", a[0].clone()))
        )
    out = model(ids, use_cache=False, output_attentions=True)
    for handle in handles:
        handle.remove()
    future = torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool()
    for layer, pattern in enumerate(out.attentions):
        q, k = (seen[f"blocks.{layer}.attn.{name}"].transpose(1, 2) for name in "qk")
        scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        seen[f"blocks.{layer}.attn.scores"] = scores.masked_fill(future, float("-inf"))
        seen[f"blocks.{layer}.attn.pattern"] = pattern
    return seen, out.logits


def patched_logits(model, ids, name, value):
    """The logits when the activation is `value` at position PATCHED."""
    modules = module_outputs(model)

    def replace(x):
        x = x.clone()
        x[:, PATCHED] = value
        return x

    if name in modules:
        handle = modules[name].register_forward_hook(lambda _, __, out: replace(out))
    elif name.endswith(".resid_pre"):
        block = model.transformer.h[int(name.split(".")[1])]
        handle = block.register_forward_pre_hook(lambda _, args: (replace(args[0]), *args[1:]))
    elif name.endswith(".attn.z"):
        projection = model.transformer.h[int(name.split(".")[1])].attn.c_proj
        handle = projection.register_forward_pre_hook(
            lambda _, args: (replace(args[0].reshape(*args[0].shape[:2], HEADS, -1)).flatten(2),)
        )
    logits = model(ids, use_cache=False).logits
    handle.remove()
    return logits


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = load_model()
    rows = load_file(FIXTURES / "gpt2-reference.safetensors")["x"].long()
    text, other = rows[:1], rows[1:2]
    seen, logits = activations(model, text)
    elsewhere, _ = activations(model, other)
    tensors = {name: value[0] for name, value in seen.items()} | {"logits": logits[0]}
    for name in (
        "embed",
        "blocks.0.attn.z",
        "blocks.1.resid_pre",
        "blocks.1.mlp.post",
        "blocks.1.attn_out",
        "blocks.2.ln2.normalized",
        "blocks.2.mlp_out",
    ):
        tensors[f"patched.{name}"] = patched_logits(model, text, name, elsewhere[name][0, SOURCE])[0]
    path = FIXTURES / "gpt2-activations.safetensors"
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"made_by": made_by})
    print(f"{path}: {path.stat().st_size:,} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
