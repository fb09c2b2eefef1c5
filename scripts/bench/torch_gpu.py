"""Times GPT-2 in PyTorch, as nanoGPT runs it: the baseline of `scripts/gpu.sh` and, for generation, of `scripts/bench.sh`.

    python torch_gpu.py train --size baby [--dtype bfloat16] [--compile]
    python torch_gpu.py generate --batch 16 [--tokens 64]

Training is that of nanoGPT's train.py: autocast, fused attention, fused AdamW, clipping to norm 1, the loss read a step later,
optionally torch.compile. Generation is greedy, in float32, with a preallocated key-value cache. TF32 is off. Random tokens and
weights. Prints one JSON object: for training the milliseconds of the median step and the peak memory of tensors, for generation
the total tokens per second of all rows.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Size:
    vocab: int
    context: int
    layers: int
    heads: int
    embd: int
    dropout: float
    batch: int
    steps: int


SIZES = {
    "nano": Size(65, 64, 4, 4, 128, 0.0, 12, 100),
    "baby": Size(65, 256, 6, 6, 384, 0.2, 64, 60),
    "gpt2": Size(50304, 1024, 12, 12, 768, 0.0, 16, 20),  # the vocabulary rounded up, as nanoGPT does
    "tiny": Size(65, 64, 2, 2, 16, 0.1, 4, 4),
}


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.heads, self.dropout = size.heads, size.dropout
        self.c_attn, self.c_proj = nn.Linear(size.embd, 3 * size.embd), nn.Linear(size.embd, size.embd)

    def forward(self, x, cache=None, position=None):
        B, T, C = x.shape
        q, k, v = (a.view(B, T, self.heads, -1).transpose(1, 2) for a in self.c_attn(x).split(C, dim=2))
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        else:
            keys, values = cache
            keys[:, :, position : position + T], values[:, :, position : position + T] = k, v
            end = position + T
            y = F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], is_causal=T > 1)
        return F.dropout(self.c_proj(y.transpose(1, 2).reshape(B, T, C)), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.dropout = size.dropout
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(size.embd), Attention(size), nn.LayerNorm(size.embd)
        self.c_fc, self.c_proj = nn.Linear(size.embd, 4 * size.embd), nn.Linear(4 * size.embd, size.embd)

    def forward(self, x, cache=None, position=None):
        x = x + self.attn(self.ln_1(x), cache, position)
        hidden = F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        return x + F.dropout(self.c_proj(hidden), self.dropout, self.training)


class GPT(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.wte, self.wpe = nn.Embedding(size.vocab, size.embd), nn.Embedding(size.context, size.embd)
        self.h = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.ln_f = nn.LayerNorm(size.embd)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * size.layers) if name.endswith("c_proj.weight") else 0.02)

    def forward(self, ids, targets=None, caches=None, position=0):
        positions = torch.arange(position, position + ids.shape[1], device=ids.device)
        x = F.dropout(self.wte(ids) + self.wpe(positions), self.size.dropout, self.training)
        for i, block in enumerate(self.h):
            x = block(x, caches[i] if caches else None, position)
        x = self.ln_f(x)
        if targets is None:
            return x[:, -1] @ self.wte.weight.T
        return F.cross_entropy((x @ self.wte.weight.T).flatten(0, 1), targets.flatten())


def train(size, dtype, compiled, device):
    model = GPT(size).to(device)
    function = torch.compile(model) if compiled else model
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    data = torch.randint(size.vocab, (1_000_000,))
    on_gpu = device.startswith("cuda")

    def batch():
        starts = torch.randint(len(data) - size.context - 1, (size.batch,))
        rows = torch.stack([data[s : s + size.context + 1] for s in starts])
        if on_gpu:
            rows = rows.pin_memory().to(device, non_blocking=True)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    warm, before, times = 5, None, []
    rows = batch()
    for step in range(warm + size.steps):
        if step == warm and on_gpu:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = function(*rows)
        rows = batch()  # while the device computes, as nanoGPT prefetches
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if before is not None:
            before.item()
        before = loss.detach()
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() if on_gpu else None
    return {"milliseconds": 1e3 * statistics.median(times[warm:]), "memory": memory}


@torch.no_grad()
def generate(size, batch, tokens, device):
    model = GPT(size).to(device).eval()
    shape = (batch, size.heads, size.context, size.embd // size.heads)
    caches = [(torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in range(size.layers)]

    def write(count):
        ids = torch.randint(size.vocab, (batch, 8), device=device)
        position = 0
        start = time.perf_counter()
        for _ in range(count):
            logits = model(ids, caches=caches, position=position)
            position += ids.shape[1]
            ids = logits.argmax(-1, keepdim=True)
            ids[0].item()  # streaming: each token is read as it is generated
        return time.perf_counter() - start

    short, long = (4, 4 + tokens) if tokens else (4, 24) if size.context < 256 else (50, 250)
    write(short)
    seconds = statistics.median(write(long) - write(short) for _ in range(3))
    return {"tokens_per_second": batch * (long - short) / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "generate"])
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, help="tokens that are timed after the first four")
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    size = SIZES[asked.size]
    result = train(size, asked.dtype, asked.compile, asked.device) if asked.what == "train" else generate(size, asked.batch, asked.tokens, asked.device)
    print(json.dumps({"engine": f"torch {torch.__version__}", **result}))


main()
