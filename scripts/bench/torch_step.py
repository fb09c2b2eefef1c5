"""Times a training step of GPT-2 in PyTorch, a baseline for `mlx-gpt bench`. Run by scripts/bench.sh.

The step is forward, backward, clipping to norm 1 and AdamW with weight decay for matrices only, in float32, on random
tokens. Prints one JSON object with the milliseconds of the median step after three warm-up steps.
"""

import argparse
import json
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, embd, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(embd), nn.LayerNorm(embd)
        self.c_attn, self.attn_proj = nn.Linear(embd, 3 * embd), nn.Linear(embd, embd)
        self.c_fc, self.mlp_proj = nn.Linear(embd, 4 * embd), nn.Linear(4 * embd, embd)

    def forward(self, x):
        B, T, C = x.shape
        heads = (a.view(B, T, self.heads, -1).transpose(1, 2) for a in self.c_attn(self.ln_1(x)).split(C, dim=2))
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.attn_proj(attended.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.wte = nn.Embedding(shape.vocab, shape.embd)
        self.wpe = nn.Embedding(shape.context, shape.embd)
        self.h = nn.Sequential(*(Block(shape.embd, shape.heads) for _ in range(shape.layers)))
        self.ln_f = nn.LayerNorm(shape.embd)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if residual else 0.02)

    def forward(self, ids):
        positions = torch.arange(ids.shape[1], device=ids.device)
        return self.ln_f(self.h(self.wte(ids) + self.wpe(positions))) @ self.wte.weight.T


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["layers", "heads", "embd", "context", "vocab", "batch", "steps", "threads"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    shape = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(shape.threads)
    model = GPT(shape).to(shape.device)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    x, y = (torch.randint(shape.vocab, (shape.batch, shape.context), device=shape.device) for _ in range(2))

    times = []
    for _ in range(3 + shape.steps):
        start = time.perf_counter()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for a GPU; a CPU is done
        times.append(time.perf_counter() - start)
    median = 1e3 * statistics.median(times[3:])
    print(json.dumps({"engine": f"torch {torch.__version__}", "milliseconds": median}))


if __name__ == "__main__":
    main()
