"""Generates tests/fixtures/evaluation.json: what `transformers` and torch find where tests/cli/evaluation.rs evaluates.

    pip install torch transformers safetensors
    python scripts/evaluation_fixtures.py           # or: python scripts/evaluation_fixtures.py OTHER_FOLDER

The model is that of tests/fixtures/gpt2-parameters.safetensors (see fixtures.py): a random GPT-2 of 24 positions. Its
65 tokens are taken to be the characters of assets/shakespeare.txt in code-point order, as the program's character
tokenizer numbers them.

strides
    Losses of texts, `loss` in nats per token, in overlapping windows. The loop is the one of transformers' guide
    "Perplexity of fixed-length models": windows of the context, `stride` apart, in each of which only what lies after
    the end of the one before counts.
hellaswag
    Of each example of assets/endings.jsonl, in order: the summed losses of its endings (`losses`), their numbers of
    `tokens`, its `label`, and how many tokens of ctx were `dropped`; by the rule of interop/hellaswag.py.

Everything is computed in float32, except the sums, which are in float64.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts" / "interop"))
import hellaswag  # noqa: E402

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 3, 5, 80, 24, 65
STRIDES = [1, 7, 12, 23, 24]


def fixture_model(folder):
    config = transformers.GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.GPT2LMHeadModel(config)
    parameters = load_file(folder / "gpt2-parameters.safetensors")
    parameters = {f"transformer.{name}": parameter.float() for name, parameter in parameters.items()}
    missing, unexpected = model.load_state_dict(parameters, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], []), (missing, unexpected)  # the head is tied
    return model.eval()


@torch.inference_mode()
def loss_with_stride(model, ids, stride):
    """Nats per token of all tokens but the first."""
    inputs, targets = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
    total, counted = 0.0, 0
    for begin in range(0, len(inputs), stride):
        end = min(begin + CONTEXT, len(inputs))
        new = end - counted
        logits = model(inputs[None, begin:end], use_cache=False).logits[0, -new:]
        total += cross_entropy(logits.double(), targets[end - new : end], reduction="sum").item()
        counted = end
        if end == len(inputs):
            break
    return total / counted


def main():
    parser = argparse.ArgumentParser(description="Makes the file that tests/cli/evaluation.rs compares against.")
    fixtures = REPOSITORY / "tests" / "fixtures"
    parser.add_argument("folder", nargs="?", type=Path, default=fixtures, help="where to (default: tests/fixtures)")
    folder = parser.parse_args().folder

    torch.set_num_threads(1)
    model = fixture_model(fixtures)
    corpus = (REPOSITORY / "assets" / "shakespeare.txt").read_text(encoding="ascii")
    ids = {character: number for number, character in enumerate(sorted(set(corpus)))}

    def encode(text):
        return [ids[character] for character in text]

    # Windows that fit exactly (1 + 24 · 10), a last one that is shorter, and a text shorter than one window.
    texts = [corpus[5000:5241], corpus[9000:9200], "To be, or not"]
    strides = [
        {"text": text, "stride": stride, "loss": loss_with_stride(model, encode(text), stride)}
        for text in texts
        for stride in STRIDES
    ]
    scores = []
    for example in hellaswag.read_examples(REPOSITORY / "assets" / "endings.jsonl"):
        ctx, endings = hellaswag.tokens_of(example, encode, CONTEXT)
        scores.append(
            {
                "losses": hellaswag.summed_losses(model, ctx, endings),
                "tokens": list(map(len, endings)),
                "label": int(example["label"]),
                "dropped": len(example["ctx"]) - len(ctx),
            }
        )
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
    path = folder / "evaluation.json"
    content = {"made_by": made_by, "strides": strides, "hellaswag": scores}
    path.write_text(json.dumps(content, indent=1) + "\n")

    print(f"{path}: {path.stat().st_size:,} bytes")
    for case in strides:
        print(f"{len(case['text'])} characters, stride {case['stride']}: loss {case['loss']:.7f}")
    accuracies = hellaswag.accuracies([(score["losses"], score["tokens"], score["label"]) for score in scores])
    print("accuracy {:.4f}, normalized {:.4f}".format(*accuracies))


if __name__ == "__main__":
    main()
