#!/usr/bin/env python3
"""Benchmarks the replacements of MLX's CPU functions: nano and GPT-2 124M without each of them in turn, and without all.

    make bench-kernels                                     # about half an hour on two idle cores
    python3 kernels/gains.py --rounds 1 --only-nano        # a quick look

Each round measures every variant, so that a slower machine slows all of them. Figures are medians over rounds: milliseconds per
training step (AdamW, float32, all threads) and generated tokens per second. In parentheses: how many times slower than with all
replacements.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent


def names():
    """The names that can be left out, from kernels/override.c."""
    source = (ROOT / "kernels/override.c").read_text()
    return re.findall(r'"(\w+)"', re.search(r"names\[\] = \{(.*?)\}", source, re.DOTALL).group(1))


def variants():
    """The environment of each variant, by name."""
    all_of_them = {"MLX_GPT_KERNELS": "on", "MLX_GPT_KERNELS_WITHOUT": None}
    without = {f"without {name}": all_of_them | {"MLX_GPT_KERNELS_WITHOUT": name} for name in names()}
    return {"all replacements": all_of_them} | without | {"MLX_GPT_KERNELS=off": all_of_them | {"MLX_GPT_KERNELS": "off"}}


def measure(program, environment, preset, only, steps, *more):
    command = [program, "bench", "--json", "--device", "cpu", "--preset", preset, "--only", only, "--steps", str(steps), *more]
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    size = json.loads(done.stdout)["sizes"][0]
    if only == "training":
        return size["training"]["milliseconds"]["step"]
    return size["generation"]["tokens_per_second"]


def columns(arguments):
    """By heading: preset, section, steps, further options, and whether higher is better."""
    chosen = {
        "nano, ms per step": ("nano", "training", 60, [], False),
        "on one thread": ("nano", "training", 60, ["--threads", "1"], False),
        "nano, tokens/s": ("nano", "generation", 200, [], True),
    }
    if not arguments.only_nano:
        chosen |= {
            "124M, ms per step": ("gpt2", "training", 5, [], False),
            "124M, tokens/s": ("gpt2", "generation", 20, [], True),
        }
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/mlx-gpt"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only-nano", action="store_true")
    arguments = parser.parse_args()

    measured = defaultdict(list)
    for number in range(1, arguments.rounds + 1):
        for variant, environment in variants().items():
            print(f"round {number} of {arguments.rounds}: {variant}", file=sys.stderr)
            for heading, (preset, only, steps, more, _) in columns(arguments).items():
                measured[variant, heading].append(measure(arguments.program, environment, preset, only, steps, *more))

    median = {key: statistics.median(values) for key, values in measured.items()}
    headings = list(columns(arguments))
    print(f"medians of {arguments.rounds} round(s)\n")
    print("| " + " | ".join([f"{'':<36}"] + [f"{heading:>20}" for heading in headings]) + " |")
    print("| " + " | ".join(["-" * 36] + ["-" * 19 + ":"] * len(headings)) + " |")
    for variant in variants():
        cells = []
        for heading, (*_, more_is_better) in columns(arguments).items():
            value, whole = median[variant, heading], median["all replacements", heading]
            slower = whole / value if more_is_better else value / whole
            cells.append(f"{value:.1f} ({slower:.2f} ×)")
        print("| " + " | ".join([f"{variant:<36}"] + [f"{cell:>20}" for cell in cells]) + " |")
    spreads = (max(values) / min(values) - 1 for values in measured.values())
    print(f"\na figure's slowest round is at most {max(spreads):.0%} slower than its fastest")


if __name__ == "__main__":
    main()
