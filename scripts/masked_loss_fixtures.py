"""Generates tests/fixtures/masked-loss.safetensors: a loss that leaves targets out, computed by PyTorch.

    pip install torch transformers safetensors numpy
    python scripts/masked_loss_fixtures.py

The model is `transformers`' GPT-2 with 2 layers, 2 heads, embedding dimension 16, context 10 and 23 tokens; the loss is
torch's `cross_entropy` with its own `ignore_index`, -100. Of six rows, the first has all its targets, the second none, and
the others a random part: however the rows are divided, each part has another number of targets than its share.

x, y            int32 [6, 10]       tokens, and the tokens to predict for them; -100 where there is none
NAME            float32             a parameter, named as in a Hugging Face GPT-2 file
loss            float32 [1]         the mean over the targets that are not ignored
losses          float32 [6, 10]     without the mean: 0 where the target is ignored
grad.NAME       float32             gradient of `loss`
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

SEED = 1337
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY, ROWS = 2, 2, 16, 10, 23, 6
IGNORE_INDEX = -100


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    config = GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    named = {name.removeprefix("transformer."): parameter for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in named.items():
            is_gain = parameter.ndim == 1 and name.endswith(".weight")
            parameter.copy_(float(is_gain) + 0.2 * torch.randn(parameter.shape, generator=generator))
    x = torch.randint(VOCABULARY, (ROWS, CONTEXT), generator=generator)
    y = torch.randint(VOCABULARY, (ROWS, CONTEXT), generator=generator)
    ignored = torch.rand((ROWS, CONTEXT), generator=generator) < 0.6
    ignored[0], ignored[1] = False, True
    y[ignored] = IGNORE_INDEX

    logits = model(x, use_cache=False).logits.flatten(0, 1)
    loss = cross_entropy(logits, y.flatten(), ignore_index=IGNORE_INDEX)
    losses = cross_entropy(logits, y.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    loss.backward()
    arrays = {
        "x": x.int(),
        "y": y.int(),
        "loss": loss.detach().reshape(1),
        "losses": losses.detach().reshape(ROWS, CONTEXT),
        **{name: parameter.detach().clone() for name, parameter in named.items()},
        **{f"grad.{name}": parameter.grad.clone() for name, parameter in named.items()},
    }
    path = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "masked-loss.safetensors"
    metadata = {"made_by": f"torch {torch.__version__}, transformers {transformers.__version__}, seed {SEED}"}
    save_file(arrays, path, metadata)
    print(f"{path}: {path.stat().st_size:,} bytes, loss {loss.item():.6f} over {(~ignored).sum().item()} targets")


if __name__ == "__main__":
    main()
