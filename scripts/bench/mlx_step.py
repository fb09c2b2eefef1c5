"""Times a training step of GPT-2 in Python MLX, a baseline for `mlx-gpt bench`. Run by scripts/bench.sh.

Usage, step and output are those of torch_step.py; --compile compiles the whole step.
"""

import argparse
import json
import statistics
import time
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim


class Block(nn.Module):
    def __init__(self, embd, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(embd), nn.LayerNorm(embd)
        self.c_attn, self.attn_proj = nn.Linear(embd, 3 * embd), nn.Linear(embd, embd)
        self.c_fc, self.mlp_proj = nn.Linear(embd, 4 * embd), nn.Linear(4 * embd, embd)

    def __call__(self, x):
        B, T, C = x.shape
        parts = mx.split(self.c_attn(self.ln_1(x)), 3, axis=-1)
        q, k, v = (part.reshape(B, T, self.heads, -1).transpose(0, 2, 1, 3) for part in parts)
        scale = (C // self.heads) ** -0.5
        attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")
        x = x + self.attn_proj(attended.transpose(0, 2, 1, 3).reshape(B, T, C))
        return x + self.mlp_proj(nn.gelu_approx(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.wte = nn.Embedding(shape.vocab, shape.embd)
        self.wpe = nn.Embedding(shape.context, shape.embd)
        self.h = [Block(shape.embd, shape.heads) for _ in range(shape.layers)]
        self.ln_f = nn.LayerNorm(shape.embd)

    def __call__(self, ids):
        x = self.wte(ids) + self.wpe(mx.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.wte.as_linear(self.ln_f(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["layers", "heads", "embd", "context", "vocab", "batch", "steps"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    shape = parser.parse_args()

    mx.random.seed(0)
    model = GPT(shape)
    adamw = partial(optim.AdamW, 1e-3, betas=[0.9, 0.99], bias_correction=True)
    optimizer = optim.MultiOptimizer(
        [adamw(weight_decay=0.1), adamw(weight_decay=0.0)], [lambda name, parameter: parameter.ndim >= 2]
    )
    optimizer.init(model.trainable_parameters())
    x, y = (mx.random.randint(0, shape.vocab, (shape.batch, shape.context)) for _ in range(2))
    mx.eval(model.parameters(), optimizer.state, x, y)
    loss_and_gradients = nn.value_and_grad(model, lambda x, y: nn.losses.cross_entropy(model(x), y, reduction="mean"))

    def step(x, y):
        loss, gradients = loss_and_gradients(x, y)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    state = [model.state, optimizer.state]
    if shape.compile:
        step = mx.compile(step, inputs=state, outputs=state)
    times = []
    for _ in range(3 + shape.steps):
        start = time.perf_counter()
        loss = step(x, y)
        mx.eval(state, loss)
        times.append(time.perf_counter() - start)
    median = 1e3 * statistics.median(times[3:])
    print(json.dumps({"engine": f"mlx {mx.__version__}", "milliseconds": median}))


if __name__ == "__main__":
    main()
