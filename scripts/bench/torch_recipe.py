"""Times nanoGPT's recipe in PyTorch, the baseline of `mlx-gpt bench speedrun`.

    python scripts/bench/torch_recipe.py --corpus assets/shakespeare.txt --seed 1337 >> curves.jsonl

The recipe is the preset's of `mlx-gpt train --optimizer adamw`: characters, random rows, GPT-2 with biases, AdamW with weight
decay for matrices only, clipping to norm 1.0, warm-up and cosine, float32. Only training steps are timed, after a few warm-up
steps; evaluations, exact over the whole validation split, are not. Prints one JSON line in the format of the speedrun's
curves.jsonl. Needs: pip install torch.
"""

import argparse
import copy
import hashlib
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    "nano": dict(layers=4, heads=4, embd=128, context=64, batch=12, steps=2000, dropout=0.0),
    "baby": dict(layers=6, heads=6, embd=384, context=256, batch=64, steps=5000, dropout=0.2),
}
LR, MIN_LR, WARMUP = 1e-3, 1e-4, 100
WARM_UP_STEPS = 5


class Attention(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.heads, self.dropout = a.heads, a.dropout
        self.c_attn, self.c_proj = nn.Linear(a.embd, 3 * a.embd), nn.Linear(a.embd, a.embd)
        self.drop = nn.Dropout(a.dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.heads, C // self.heads).transpose(1, 2) for y in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        return self.drop(self.c_proj(y.transpose(1, 2).reshape(B, T, C)))


class Block(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(a.embd), Attention(a), nn.LayerNorm(a.embd)
        self.c_fc, self.c_proj = nn.Linear(a.embd, 4 * a.embd), nn.Linear(4 * a.embd, a.embd)
        self.drop = nn.Dropout(a.dropout)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.drop(self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")))


class Gpt(nn.Module):
    def __init__(self, a, vocabulary):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, a.embd), nn.Embedding(a.context, a.embd)
        self.drop = nn.Dropout(a.dropout)
        self.h, self.ln_f = nn.ModuleList(Block(a) for _ in range(a.layers)), nn.LayerNorm(a.embd)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * a.layers) if residual else 0.02)

    def forward(self, ids):
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


class Training:
    def __init__(self, a, model, ids):
        self.a, self.model, self.ids = a, model, ids
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        others = [p for p in model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99))

    def rate(self, step):
        if step < WARMUP:
            return LR * (step + 1) / (WARMUP + 1)
        progress = (step - WARMUP) / max(1, self.a.steps - WARMUP)
        return MIN_LR + 0.5 * (1 + math.cos(math.pi * progress)) * (LR - MIN_LR)

    def step(self, step):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        starts = torch.randint(len(self.ids) - self.a.context, (self.a.batch,))
        x = torch.stack([self.ids[i : i + self.a.context] for i in starts]).to(self.a.device)
        y = torch.stack([self.ids[i + 1 : i + 1 + self.a.context] for i in starts]).to(self.a.device)
        F.cross_entropy(self.model(x).flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.a.device == "mps":
            torch.mps.synchronize()


@torch.no_grad()
def exact_loss(model, ids, a):
    """Over consecutive windows of the context, the last one shorter: every token but the first is predicted once."""
    model.eval()
    whole = (len(ids) - 1) // a.context * a.context
    rows = list(zip(ids[:whole].view(-1, a.context).split(64), ids[1 : whole + 1].view(-1, a.context).split(64)))
    if whole + 1 < len(ids):
        rows.append((ids[None, whole:-1], ids[None, whole + 1 :]))
    total = 0.0
    for x, y in rows:
        logits = model(x.to(a.device)).flatten(0, 1)
        total += F.cross_entropy(logits, y.to(a.device).flatten(), reduction="sum").item()
    model.train()
    return total / (len(ids) - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--preset", choices=SIZES, default="nano")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--threads", type=int, help="default: PyTorch's own choice")
    parser.add_argument("--device", choices=["cpu", "mps"], default="cpu")
    a = parser.parse_args()
    for key, value in SIZES[a.preset].items():
        if getattr(a, key, None) is None:
            setattr(a, key, value)
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)

    with open(a.corpus, "rb") as file:
        whole = file.read()
    text = whole.decode()
    index = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([index[character] for character in text])
    cut = int(0.9 * len(ids))
    train_ids, val_ids = ids[:cut], ids[cut:]

    model = Gpt(a, len(index)).to(a.device)
    forgotten = Training(a, copy.deepcopy(model), train_ids)
    for step in range(WARM_UP_STEPS):
        forgotten.step(step)
    torch.manual_seed(a.seed)

    training, seconds, curve = Training(a, model, train_ids), 0.0, []
    every = math.ceil(a.steps / a.evaluations)
    for step in range(a.steps):
        started = time.perf_counter()
        training.step(step)
        seconds += time.perf_counter() - started
        if (step + 1) % every == 0 or step + 1 == a.steps:
            loss = exact_loss(model, val_ids, a)
            curve.append({"step": step + 1, "seconds": seconds, "val_loss": loss if math.isfinite(loss) else None})
            print(f"torch seed {a.seed}: step {step + 1}/{a.steps}, loss {loss:.4f}, {seconds:.1f} s", file=sys.stderr)
    version = torch.__version__.partition("+")[0]
    tokens = a.steps * a.batch * a.context / seconds
    print(
        json.dumps(
            {
                "engine": f"torch {version}",
                "recipe": "plain",
                "seed": a.seed,
                "tokens_per_second": tokens,
                "corpus": {"sha256": hashlib.sha256(whole).hexdigest(), "cut": len(text[:cut].encode())},
                "curve": curve,
            }
        )
    )


main()
