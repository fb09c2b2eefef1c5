"""Generates the files in tests/fixtures that the Rust tests compare against.

    pip install torch transformers safetensors numpy
    python scripts/fixtures.py              # or: python scripts/fixtures.py OTHER_FOLDER

The model is `transformers`' GPT-2; the loss, the gradients, the clipping and AdamW are torch's. The reference
uses none of this project's code, so that both sides cannot share a mistake.

The model has 3 layers, 5 heads, embedding dimension 80, context 24 and 65 tokens, no dropout, and a head tied to the token
embedding. All parameters are random, also biases and layer-norm gains: with their usual initial values 0 and 1, a missing or
mixed-up one would go unnoticed. They are rounded to float16, so that they are stored exactly; everything is computed in
float32.

gpt2-parameters.safetensors
    The parameters (float16), named as in a Hugging Face GPT-2 file; matrices are [inputs, outputs].

gpt2-reference.safetensors
    x, y            int32 [12, 24]      a batch of random tokens, and the random tokens to predict for them
    logits          float32 [3, 24, 65] of the batch's first 3 rows
    loss            float32 [1]         mean cross-entropy over the whole batch
    grad.NAME       float32             gradient of that loss by each parameter, before clipping
    grad_norm       float32 [1]         the L2 norm of all gradients together
    losses          float32 [10]        the batch's loss before each of 10 steps of AdamW that overfit it: gradients
                                        clipped to norm 1, learning rate 0.001, betas 0.9 and 0.99, epsilon 1e-8,
                                        weight decay 0.1 for parameters with two dimensions
    muon_losses     float32 [10]        the same with torch's Muon for the blocks' matrices, queries, keys and values
                                        apart: learning rate 0.02, no decay, Newton-Schulz in float32 rather than bfloat16

The metadata of each file has the versions and the seed. On the same machine with the same versions, the output is
byte-identical; elsewhere the last digits can differ.
"""

import argparse
import copy
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

SEED = 1337
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 3, 5, 80, 24, 65
BATCH, LOGIT_ROWS, STEPS = 12, 3, 10


def random_model(generator):
    config = GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and name.endswith(".weight")
            parameter.copy_((1 + 0.1 * noise if is_gain else 0.05 * noise).half())
    return model


def named_parameters(model):
    """The model's parameters by the names that the files use. The head, being the token embedding, has none."""
    return {name.removeprefix("transformer."): parameter for name, parameter in model.named_parameters()}


def logits_and_loss(model, x, y):
    # GPT2LMHeadModel's own `labels` are its inputs, shifted; these targets are any tokens.
    logits = model(x, use_cache=False).logits
    return logits, cross_entropy(logits.flatten(0, 1), y.flatten())


def adamw(parameters):
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-3,
        betas=(0.9, 0.99),
        eps=1e-8,
    )


class MuonAndAdamW:
    """torch's Muon for the matrices in the blocks, and AdamW for the rest.

    Its matrices are [outputs, inputs]: transposed copies of the model's, with queries, keys and values separate.
    """

    def __init__(self, model):
        inside = lambda name, p: ".h." in name and p.ndim == 2
        self.fused = [p for name, p in model.named_parameters() if inside(name, p)]
        self.parts = [[torch.nn.Parameter(part.T.contiguous()) for part in self.split(p.detach())] for p in self.fused]
        self.muon = torch.optim.Muon(sum(self.parts, []), lr=0.02, weight_decay=0.0, adjust_lr_fn="original")
        self.adamw = adamw([p for name, p in model.named_parameters() if not inside(name, p)])

    @staticmethod
    def split(matrix):
        inputs, outputs = matrix.shape
        return matrix.split(inputs, dim=1) if outputs == 3 * inputs else (matrix,)

    def zero_grad(self):
        self.adamw.zero_grad()
        for p in self.fused:
            p.grad = None

    def step(self):
        self.adamw.step()
        for p, parts in zip(self.fused, self.parts):
            for part, grad in zip(parts, self.split(p.grad)):
                part.grad = grad.T.contiguous()
        # torch's Muon iterates in bfloat16, of which three digits are left.
        bfloat16, torch.bfloat16 = torch.bfloat16, torch.float32
        self.muon.step()
        torch.bfloat16 = bfloat16
        with torch.no_grad():
            for p, parts in zip(self.fused, self.parts):
                p.copy_(torch.cat([part.T for part in parts], dim=1))


def overfit(model, make_optimizer, x, y):
    """Trains a copy of the model on one batch; returns the loss before each step."""
    model = copy.deepcopy(model)
    optimizer = make_optimizer(model)
    losses = []
    for _ in range(STEPS):
        _, loss = logits_and_loss(model, x, y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return torch.tensor(losses)


def main():
    parser = argparse.ArgumentParser(description="Makes the files that the Rust tests compare against.")
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="where to (default: tests/fixtures)")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {"made_by": f"torch {torch.__version__}, transformers {transformers.__version__}, seed {SEED}"}

    model = random_model(generator)
    x = torch.randint(VOCABULARY, (BATCH, CONTEXT), generator=generator)
    y = torch.randint(VOCABULARY, (BATCH, CONTEXT), generator=generator)
    parameters = {name: parameter.detach().half() for name, parameter in named_parameters(model).items()}
    save_file(parameters, folder / "gpt2-parameters.safetensors", metadata)

    logits, loss = logits_and_loss(model, x, y)
    loss.backward()
    gradients = {f"grad.{name}": parameter.grad.clone() for name, parameter in named_parameters(model).items()}
    reference = {
        "x": x.int(),
        "y": y.int(),
        "logits": logits.detach()[:LOGIT_ROWS].clone(),
        "loss": loss.detach().reshape(1),
        "grad_norm": torch.nn.utils.get_total_norm(gradients.values()).reshape(1),
        "losses": overfit(model, lambda copied: adamw(list(copied.parameters())), x, y),
        "muon_losses": overfit(model, MuonAndAdamW, x, y),
        **gradients,
    }
    save_file(reference, folder / "gpt2-reference.safetensors", metadata)

    for path in sorted(folder.glob("gpt2-*.safetensors")):
        print(f"{path}: {path.stat().st_size:,} bytes")
    print(f"loss {loss.item():.6f}, gradient norm {reference['grad_norm'].item():.6f}")
    for name in "losses", "muon_losses":
        print(f"{name}:", " ".join(f"{value:.4f}" for value in reference[name].tolist()))


if __name__ == "__main__":
    main()
