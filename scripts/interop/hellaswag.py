"""Scores a file of HellaSwag's format in `transformers` and compares with `mlx-gpt eval --hellaswag`.

    pip install torch transformers mlx-lm       # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/hellaswag.py CHECKPOINT_FOLDER FILE [--mlx-gpt target/debug/mlx-gpt]

The rule is the one of hellaswag.py in Karpathy's build-nanogpt and of llm.c: an ending's loss is the sum of the
negative log-likelihoods of the tokens of " " + ending after the tokens of ctx. The ending with the smallest sum is
chosen, and, normalized, the one with the smallest mean over its tokens. Where they do not fit into the context
together, the beginning of ctx is dropped, as much of it for all endings of an example as the longest one demands.

Here each ending goes through the model by itself, without padding or batches, and its losses are added in float64.

A sum may differ by 1e-4 nats, a long one by 1e-5 a token, which is what two float32 implementations of a model of 124
million parameters stay well within. Prints both accuracies of both; where a sum, a count or a choice differs, it says
which and exits with status 1. A choice may differ if the two best endings are within the tolerance.
"""

import json

from compare import torch, transformers, transformers_model
from program import Problem, arguments, main, mlx_gpt_json
from torch.nn.functional import cross_entropy

SUM_TOLERANCE, TOKEN_TOLERANCE = 1e-4, 1e-5  # nats


def read_examples(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


def tokens_of(example, encode, context):
    """The ids of ctx, as much of its end as fits, and those of each ending."""
    ctx = encode(example["ctx"])
    endings = [encode(" " + ending) for ending in example["endings"]]
    longest = max(map(len, endings))
    return ctx[-(context + 1 - longest) :], endings  # the last token is predicted and never an input


@torch.inference_mode()
def summed_losses(model, ctx, endings):
    """The loss of each ending after ctx: a float each, in nats."""
    sums = []
    for ending in endings:
        ids = torch.tensor([ctx + ending])
        logits = model(ids[:, :-1], use_cache=False).logits[0, -len(ending) :]
        sums.append(cross_entropy(logits.double(), torch.tensor(ending), reduction="sum").item())
    return sums


def smallest(values):
    return min(range(len(values)), key=values.__getitem__)


def accuracies(scores):
    """Accuracy of choosing the ending with the smallest sum, and with the smallest mean."""
    by_sum = [smallest(sums) == label for sums, _, label in scores]
    by_mean = [smallest([s / n for s, n in zip(sums, counts)]) == label for sums, counts, label in scores]
    return sum(by_sum) / len(scores), sum(by_mean) / len(scores)


def transformers_scores(folder, examples):
    """(sums, token counts, label) of each example."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers_model(folder)

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    scores = []
    for example in examples:
        ctx, endings = tokens_of(example, encode, model.config.n_positions)
        scores.append((summed_losses(model, ctx, endings), list(map(len, endings)), int(example["label"])))
    return scores


def compare(number, ours, theirs):
    """Compares an example's score in mlx-gpt's JSON with the one computed here; returns the largest difference of sums."""
    sums, counts, label = theirs
    if (ours["tokens"], ours["label"], len(ours["losses"])) != (counts, label, len(sums)):
        raise Problem(f"example {number}: tokens {ours['tokens']}, label {ours['label']}; here {counts}, {label}")
    tolerances = [max(SUM_TOLERANCE, TOKEN_TOLERANCE * count) for count in counts]
    off = [abs(a - b) for a, b in zip(ours["losses"], sums)]
    for ending, (difference, tolerance) in enumerate(zip(off, tolerances)):
        if not difference <= tolerance:  # written so that NaN fails
            raise Problem(f"example {number}: the loss of ending {ending} is off by {difference:.1e}")
    scales = {"chosen": [1] * len(counts), "chosen_normalized": counts}
    for key, scale in scales.items():
        # The choice is right if, given what either side may be off, it can have the smallest loss.
        least = [(s - t) / n for s, t, n in zip(sums, tolerances, scale)]
        most = [(s + t) / n for s, t, n in zip(sums, tolerances, scale)]
        if least[ours[key]] > min(most):
            raise Problem(f"example {number}: {key} is {ours[key]}, which has not the smallest loss in transformers")
    return max(off)


def check(options):
    folder, file = options.checkpoint_folder, options.file
    # It refuses a file that is not in order.
    ours = mlx_gpt_json(
        options.mlx_gpt, "eval", "--checkpoint", folder, "--hellaswag", file, "--device", "cpu"
    )
    examples = read_examples(file)
    try:
        theirs = transformers_scores(folder, examples)
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"transformers cannot use the folder: {error}") from error
    if not len(ours["scores"]) == ours["examples"] == len(theirs):
        raise Problem(f"mlx-gpt scored {len(ours['scores'])} of {len(theirs)} examples")
    off = max(compare(number, *pair) for number, pair in enumerate(zip(ours["scores"], theirs), 1))

    reported = ours["accuracy"], ours["accuracy_normalized"]
    computed = accuracies(theirs)
    endings = sum(len(sums) for sums, _, _ in theirs)
    print(f"{len(theirs)} examples, {endings} endings; a sum is off by {off:.1e} at most")
    for name, (by_sum, by_mean) in ("mlx-gpt", reported), (f"transformers {transformers.__version__}", computed):
        print(f"  {name:<24}accuracy {by_sum:.4f}   normalized {by_mean:.4f}")
    own = [(score["losses"], score["tokens"], score["label"]) for score in ours["scores"]]
    if reported != accuracies(own):
        raise Problem(f"mlx-gpt's accuracies are {reported}, those of its own losses {accuracies(own)}")


if __name__ == "__main__":
    main(check, arguments("Compares HellaSwag scores with those of transformers.", "CHECKPOINT_FOLDER", "FILE").parse_args())
