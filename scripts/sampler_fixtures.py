"""Generates tests/fixtures/sampler.json, what tests/sampler.rs compares against: the tokens that transformers' logits
processors keep, and how likely they are then.

    pip install torch transformers
    python scripts/sampler_fixtures.py              # or: python scripts/sampler_fixtures.py OTHER_FILE

The processors are applied in the order that transformers' `generate` has them in. Logits are random: no two are equal,
because there transformers' top-k keeps more than k tokens.
"""

import argparse
import itertools
import json
from pathlib import Path

import torch
import transformers
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SEED = 1
VOCABULARY = 48
SEEN = [3, 17, 17, 4, 40, 8, 3, 21]


def probabilities(logits, penalty, temperature, top_k, top_p, min_p):
    processors = LogitsProcessorList()
    if penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    if min_p:
        processors.append(MinPLogitsWarper(min_p))
    scores = processors(torch.tensor([SEEN]), logits[None].clone())[0]
    return torch.softmax(scores, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "sampler.json"
    parser.add_argument("file", nargs="?", type=Path, default=default)
    file = parser.parse_args().file

    logits = 3 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(SEED))
    cases = []
    for settings in itertools.product([1.0, 1.3, 0.8], [1.0, 0.7, 1.9], [0, 1, 9], [1.0, 0.9, 0.4], [0.0, 0.1]):
        weights = probabilities(logits, *settings)
        kept = weights.nonzero().flatten()
        names = ["repetition_penalty", "temperature", "top_k", "top_p", "min_p"]
        case = dict(zip(names, settings))
        case["kept"] = kept.tolist()
        case["probabilities"] = [float(f"{weight:.9g}") for weight in weights[kept]]
        cases.append(case)
    output = {
        "made_by": f"torch {torch.__version__}, transformers {transformers.__version__}, seed {SEED}",
        "logits": logits.tolist(),
        "seen": SEEN,
    }
    # A case a line.
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    text = json.dumps(output, indent=2)[:-2] + f',\n  "cases": [\n{lines}\n  ]\n}}\n'
    file.write_text(text)
    print(f"{file}: {len(cases)} cases, {len(text):,} bytes")


if __name__ == "__main__":
    main()
