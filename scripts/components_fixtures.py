"""Generates tests/fixtures/components.safetensors: a transformer with other components than GPT-2's, computed by PyTorch.

    pip install torch transformers safetensors numpy
    python scripts/components_fixtures.py

Norms, activations, attention, convolutions and sums of n-gram vectors are torch's own functions (rms_norm, layer_norm, silu,
scaled_dot_product_attention with its grouped queries, conv1d, embedding_bag); rotary positions are those of `transformers`' Llama. A variant is named by the components that
differ from GPT-2's. Each has 2 layers, 4 heads, embedding dimension 16, context 12 and 31 tokens. Parameters are random and
rounded to float16, in which they are stored.

x, y                        int32 [3, 12]
VARIANT/NAME                float16, a parameter by the name that the program uses
VARIANT/logits              float32 [3, 12, 31]
VARIANT/loss                float32 [1]
VARIANT/grad.NAME           float32
table/after, table/m, table/v  float32 [64, 16], the n-gram table of the variant ngrams and AdamW's moments of it after 33
                            steps, one row of x each, that leave all other parameters as they are
activation/x                float32 [5, 82], from -20 to 20
activation/NAME             float32, the activation of x; of swiglu the halves of the last axis are gate and input
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

SEED = 1337
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 2, 4, 16, 12, 31
HEAD = WIDTH // HEADS
ROTARY_BASE = 1000.0
EPSILON = 1e-5

GPT2 = dict(
    rotary=False,
    rms=False,
    qk_norm=False,
    activation="gelu",
    own_head=False,
    kv_heads=HEADS,
    convolution=0,
    ngram_rows=0,
    ngram_size=0,
)
NGRAMS = dict(ngram_rows=64, ngram_size=3)
VARIANTS = {
    "rotary": dict(rotary=True),
    "rms": dict(rms=True),
    "qk_norm": dict(qk_norm=True),
    "relu2": dict(activation="relu2"),
    "swiglu": dict(activation="swiglu", own_head=True),
    "grouped": dict(kv_heads=2, rotary=True, qk_norm=True),
    "convolution": dict(convolution=3),
    "ngrams": NGRAMS,
    "modern": dict(rotary=True, rms=True, qk_norm=True, convolution=3) | NGRAMS | dict(ngram_size=4),
}


ACTIVATIONS = {
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "relu2": lambda x: F.relu(x).square(),
    "swiglu": lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
}


# The training of the table.
STEPS, RATE, BETA2, DECAY, DECAY_EVERY, TRAINING_TOKENS = 33, 0.01, 0.95, 1.5, 32, 1000


def multiplier(size, back):
    """Of the token `back` places before the current one in an n-gram of `size`: MurmurHash3's finaliser, odd."""
    bits = 16 * size + back
    bits = (bits ^ bits >> 16) * 0x85EBCA6B % 2**32
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32
    return (bits ^ bits >> 16) | 1


def ngram_rows(parts, x):
    """The row of each n-gram of ids [B, T]: [B, T, sizes]."""

    def row(ids, place, size):
        tokens = (multiplier(size, back) * (ids[place - back] + 1) for back in range(min(size, place + 1)))
        bits = sum(tokens) % 2**32
        for shift, factor in (15, 0x85EBCA6B), (13, 0xC2B2AE35):
            bits = (bits + (bits >> shift)) * factor % 2**32
        return bits >> (32 - (parts["ngram_rows"].bit_length() - 1))

    sizes = range(2, parts["ngram_size"] + 1)
    return torch.tensor([[[row(ids, t, n) for n in sizes] for t in range(len(ids))] for ids in x.tolist()])


def random_parameters(parts, generator):
    hidden = -(-(8 * WIDTH // 3) // 8) * 8 if parts["activation"] == "swiglu" else 4 * WIDTH
    widened = 2 * hidden if parts["activation"] == "swiglu" else hidden
    shapes = {"wte.weight": (VOCABULARY, WIDTH)}
    if not parts["rotary"]:
        shapes["wpe.weight"] = (CONTEXT, WIDTH)
    if parts["own_head"]:
        shapes["lm_head.weight"] = (VOCABULARY, WIDTH)
    if parts["ngram_rows"]:
        shapes["ngrams.weight"] = (parts["ngram_rows"], WIDTH)
    for n in range(LAYERS if parts["convolution"] else 0):
        shapes[f"h.{n}.conv.weight"] = (parts["convolution"], WIDTH)
    norms = [] if parts["rms"] else ["ln_f"] + [f"h.{n}.{ln}" for n in range(LAYERS) for ln in ("ln_1", "ln_2")]
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (WIDTH,)
    for n in range(LAYERS):
        for name, rows, columns in [
            ("attn.c_attn", WIDTH, WIDTH + 2 * parts["kv_heads"] * HEAD),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, widened),
            ("mlp.c_proj", hidden, WIDTH),
        ]:
            shapes[f"h.{n}.{name}.weight"] = (rows, columns)
            shapes[f"h.{n}.{name}.bias"] = (columns,)
    parameters = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator)
        is_gain = ".ln_" in f".{name}" and name.endswith(".weight")
        parameters[name] = (1 + 0.1 * noise if is_gain else 0.3 * noise).half().float().requires_grad_()
    return parameters


def forward(parts, p, x):
    def norm(name, h):
        if parts["rms"]:
            return F.rms_norm(h, (WIDTH,), eps=EPSILON)
        return F.layer_norm(h, (WIDTH,), p[f"{name}.weight"], p[f"{name}.bias"], EPSILON)

    def linear(name, h):
        return h @ p[f"{name}.weight"] + p[f"{name}.bias"]

    rows, places = x.shape
    h = F.embedding(x, p["wte.weight"])
    if not parts["rotary"]:
        h = h + p["wpe.weight"][:places]
    if parts["ngram_rows"]:
        bags = ngram_rows(parts, x)
        ngrams = F.embedding_bag(bags.flatten(0, 1), p["ngrams.weight"], mode="sum").reshape(rows, places, WIDTH)
    angles = torch.outer(torch.arange(places).float(), ROTARY_BASE ** (-torch.arange(0, HEAD, 2).float() / HEAD))
    cos, sin = (f(torch.cat((angles, angles), -1))[None] for f in (torch.cos, torch.sin))
    for n in range(LAYERS):
        kv = parts["kv_heads"]
        if parts["ngram_rows"]:
            h = h + ngrams
        if parts["convolution"]:
            # conv1d's last weight is that of the current token.
            kernel = p[f"h.{n}.conv.weight"].flip(0).T[:, None]  # [C, 1, W]
            padded = F.pad(h.transpose(1, 2), (parts["convolution"] - 1, 0))
            h = h + F.conv1d(padded, kernel, groups=WIDTH).transpose(1, 2)
        q, k, v = linear(f"h.{n}.attn.c_attn", norm(f"h.{n}.ln_1", h)).split([WIDTH, kv * HEAD, kv * HEAD], -1)
        q, k, v = (t.reshape(rows, places, -1, HEAD).transpose(1, 2) for t in (q, k, v))
        if parts["qk_norm"]:
            q, k = (F.rms_norm(t, (HEAD,), eps=EPSILON) for t in (q, k))
        if parts["rotary"]:
            q, k = apply_rotary_pos_emb(q, k, cos, sin)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        h = h + linear(f"h.{n}.attn.c_proj", a.transpose(1, 2).reshape(rows, places, WIDTH))
        m = linear(f"h.{n}.mlp.c_fc", norm(f"h.{n}.ln_2", h))
        h = h + linear(f"h.{n}.mlp.c_proj", ACTIVATIONS[parts["activation"]](m))
    return norm("ln_f", h) @ p["lm_head.weight" if parts["own_head"] else "wte.weight"].T


def trained_table(parts, p, x, y):
    """The n-gram table and its moments: AdamW, the rows that a step does not touch put back as they were, moments too."""
    table = p["ngrams.weight"].detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([table], lr=RATE, betas=(0.9, BETA2), eps=1e-8, weight_decay=0)
    fixed = {name: value.detach() for name, value in p.items()}
    state = [torch.zeros_like(table), torch.zeros_like(table)]
    for step in range(STEPS):
        row = slice(step % len(x), step % len(x) + 1)
        optimizer.zero_grad()
        F.cross_entropy(forward(parts, fixed | {"ngrams.weight": table}, x[row]).flatten(0, 1), y[row].flatten()).backward()
        before = [table.detach().clone(), *(moment.clone() for moment in state)]
        optimizer.step()
        state = [optimizer.state[table][name] for name in ("exp_avg", "exp_avg_sq")]
        untouched = torch.ones(len(table), dtype=torch.bool)
        untouched[ngram_rows(parts, x[row]).flatten()] = False
        for now, old in zip([table.data, *state], before):
            now[untouched] = old[untouched]
        if (step + 1) % DECAY_EVERY == 0:
            table.data *= math.exp(-DECAY * DECAY_EVERY * x.shape[1] / TRAINING_TOKENS)
    return dict(zip(("after", "m", "v"), [table.detach(), *state]))


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    x, y = (torch.randint(VOCABULARY, (3, CONTEXT), generator=generator) for _ in range(2))
    tensors = {"x": x.int(), "y": y.int()}
    for variant, changes in VARIANTS.items():
        parts = GPT2 | changes
        parameters = random_parameters(parts, generator)
        logits = forward(parts, parameters, x)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        tensors |= {f"{variant}/{name}": value.detach().half() for name, value in parameters.items()}
        tensors |= {f"{variant}/grad.{name}": value.grad for name, value in parameters.items()}
        tensors[f"{variant}/logits"] = logits.detach()
        tensors[f"{variant}/loss"] = loss.detach().reshape(1)
        if variant == "ngrams":
            tensors |= {f"table/{name}": value for name, value in trained_table(parts, parameters, x, y).items()}
        print(f"{variant}: loss {loss.item():.6f}")
    tensors["activation/x"] = torch.linspace(-20, 20, 410).reshape(5, 82)
    tensors |= {f"activation/{name}": function(tensors["activation/x"]) for name, function in ACTIVATIONS.items()}
    path = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "components.safetensors"
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}, seed {SEED}"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"made_by": made_by})
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
