"""Imports GPT-2s of several shapes, saved by `transformers` with random weights, and compares with it.

    pip install torch transformers mlx-lm       # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/imports.py TEXT_FILE WORK [--mlx-gpt target/debug/mlx-gpt]

Each model is saved by `save_pretrained` (in one file, in shards, in float16 or bfloat16) and imported by `mlx-gpt import`. Its
loss must then be within 1e-5 of transformers' on the same tokens, and its greedy text the same up to its context, at most 100
tokens. The weights are initialised ten times larger than GPT-2's, so that the logits differ.

The imports stay in WORK.
"""

import tokenizers
from compare import (
    check_greedy, check_ids, mlx_gpt_loss, torch, transformers, transformers_loss, transformers_next,
)  # fmt: skip
from program import arguments, check_close, main, mlx_gpt
from transformers import GPT2Config, GPT2LMHeadModel

TOLERANCE = 1e-5

# Name: layers, heads, width, context, vocabulary, number format, size of a shard.
MODELS = {
    "odd-width": (3, 5, 75, 16, 257, "float32", None),
    "one-head": (2, 1, 33, 1024, 257, "float32", None),
    "gpt2-vocabulary": (2, 4, 64, 16, 50257, "float32", None),
    "long-gpt2-vocabulary": (1, 3, 48, 1024, 50257, "float32", None),
    "shards": (4, 2, 64, 64, 257, "float32", "200KB"),
    "float16": (2, 2, 32, 64, 257, "float16", None),
    "bfloat16": (2, 2, 32, 64, 257, "bfloat16", None),
}


def byte_tokenizer(folder):
    """A tokenizer of the 256 bytes and one special token, without merges."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def random_model(layers, heads, width, context, vocabulary):
    config = GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=context, vocab_size=vocabulary,
        bos_token_id=vocabulary - 1, eos_token_id=vocabulary - 1, initializer_range=0.2,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and layer norms, which would be zeros and ones
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def check(options):
    text = options.text_file.read_bytes().decode("utf-8")
    torch.manual_seed(0)
    for name, (*shape, dtype, shard) in MODELS.items():
        source, out = options.work / f"{name}-transformers", options.work / name
        model = random_model(*shape).to(getattr(torch, dtype))
        model.save_pretrained(source, **({"max_shard_size": shard} if shard else {}))
        if shape[-1] == 257:
            byte_tokenizer(source)  # the others have GPT-2's own, which import knows
        mlx_gpt(options.mlx_gpt, "import", source, "--out", out)

        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        ids = check_ids(name, options.mlx_gpt, out, tokenizer, options.text_file, text)
        model = model.float()
        ours, theirs = mlx_gpt_loss(options.mlx_gpt, out, options.text_file, ids), transformers_loss(model, ids)
        check_close(f"{name}: loss", ours, theirs, TOLERANCE)
        count, ties = check_greedy(
            name, options.mlx_gpt, out, tokenizer, transformers_next(model), text[:8], shape[3]
        )
        print(
            f"  {name}: loss over {len(ids) - 1:,} tokens {theirs:.7f}, here {ours:.7f}, off by {abs(ours - theirs):.1e}; "
            f"{count} greedy tokens alike, {ties} of them ties"
        )


if __name__ == "__main__":
    main(check, arguments("Imports random GPT-2s and compares them with transformers.", "TEXT_FILE", "WORK").parse_args())
