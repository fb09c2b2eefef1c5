"""Compares what `generate --json` printed here and on a board: python3 compare.py HERE THERE.

Greedy texts are the same up to the first near tie, where sums in another order may choose another token.
"""

import json
import sys

here, there = (json.load(open(path))["samples"][0] for path in sys.argv[1:3])
same = next((i for i, (a, b) in enumerate(zip(here["ids"], there["ids"])) if a != b), len(here["ids"]))
largest = max((abs(a - b) for a, b in zip(here["logprobs"][:same], there["logprobs"][:same])), default=0)
print(f"{same} of {len(here['ids'])} tokens are the same; log-probabilities differ by at most {largest:.1e}")
if same < len(here["ids"]):
    a, b = here["logprobs"][same], there["logprobs"][same]
    print(f"then a near tie: {a:.6f} here, {b:.6f} there")
    if abs(a - b) > 1e-3:
        sys.exit("the texts differ by more than rounding")
if largest > 1e-3:
    sys.exit("log-probabilities differ by more than rounding")
