#!/usr/bin/env python3
"""Trains the models whose losses `scripts/fit_law.py` fits, and appends a line for each to sweeps/law.csv.

    python3 scripts/law_sweep.py target/release/mlx-gpt

Runs that the file already has are skipped, so that it can be stopped at any time. Each trains `modern` to its schedule's end on a
prefix of a text, at one thread; the loss is the exact one of its best checkpoint on the validation split.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "sweeps" / "law.csv"
TEXTS = {"shakespeare": ROOT / "assets/shakespeare.txt", "rust": ROOT / "assets/rust.txt"}
SHAPE = ["text", "bytes", "layers", "heads", "embd", "context", "batch", "steps", "dropout"]
COLUMNS = [*SHAPE, "train_tokens", "best_step", "loss"]

ALL, RUST = 1_115_394, 389_774
TINY, SMALL, NANO, WIDE = (2, 2, 64), (3, 3, 96), (4, 4, 128), (6, 6, 192)

# text, bytes, (layers, heads, embd), context, batch, steps, dropout; the most useful ones come first.
RUNS = [
    ("shakespeare", ALL, TINY, 64, 12, 150, 0.0),
    ("shakespeare", ALL, NANO, 64, 12, 250, 0.0),
    ("shakespeare", ALL, TINY, 64, 12, 1000, 0.0),
    ("rust", RUST, TINY, 64, 12, 150, 0.0),
    ("shakespeare", 20_000, TINY, 64, 12, 150, 0.0),
    ("shakespeare", 100_000, TINY, 64, 12, 150, 0.0),
    ("shakespeare", ALL, SMALL, 64, 12, 150, 0.0),
    ("rust", RUST, NANO, 64, 12, 150, 0.0),
    ("shakespeare", 20_000, NANO, 64, 12, 100, 0.0),
    ("shakespeare", 100_000, NANO, 64, 12, 150, 0.0),
    ("shakespeare", ALL, TINY, 128, 12, 150, 0.0),
    ("shakespeare", 100_000, TINY, 64, 12, 600, 0.0),
    ("shakespeare", ALL, NANO, 64, 12, 100, 0.0),
    ("rust", RUST, TINY, 64, 12, 600, 0.0),
    ("shakespeare", ALL, SMALL, 64, 12, 400, 0.0),
    ("shakespeare", 20_000, NANO, 64, 12, 100, 0.2),
    ("shakespeare", 20_000, TINY, 64, 12, 400, 0.0),
    ("shakespeare", ALL, WIDE, 64, 12, 80, 0.0),
    ("shakespeare", ALL, NANO, 128, 12, 120, 0.0),
    ("shakespeare", 300_000, TINY, 64, 12, 150, 0.0),
    ("shakespeare", 300_000, TINY, 64, 12, 600, 0.0),
    ("shakespeare", ALL, TINY, 256, 12, 100, 0.0),
    ("shakespeare", 100_000, NANO, 64, 12, 300, 0.2),
    ("shakespeare", ALL, TINY, 64, 12, 400, 0.0),
    ("rust", RUST, SMALL, 64, 12, 300, 0.0),
    ("shakespeare", ALL, NANO, 64, 12, 500, 0.0),
    ("shakespeare", 300_000, NANO, 64, 12, 300, 0.0),
    ("shakespeare", ALL, SMALL, 128, 12, 300, 0.0),
    ("shakespeare", ALL, WIDE, 64, 12, 200, 0.0),
    ("shakespeare", ALL, TINY, 64, 12, 2500, 0.0),
    ("shakespeare", ALL, NANO, 64, 12, 1000, 0.0),
]


def key(row):
    return tuple(str(row[name]) for name in SHAPE)


def train(program, run, folder):
    text, size, (layers, heads, embd), context, batch, steps, dropout = run
    corpus = Path(folder) / "text.txt"
    corpus.write_text(TEXTS[text].read_text(encoding="utf-8")[:size], encoding="utf-8")
    out = Path(folder) / "run"
    # A text that is seen twice or more may be overfitted; of the others the last checkpoint is the best.
    repeats = steps * context * batch > 2 * 0.9 * size
    every = max(1, steps // 6) if repeats else steps
    options = {
        "corpus": corpus, "preset": "nano", "arch": "modern", "layers": layers, "heads": heads, "embd": embd,
        "context": context, "batch-size": batch, "steps": steps, "dropout": dropout, "threads": 1,
        "eval-every": every, "save-every": every, "keep-last": 1, "eval-batches": 20, "out": out,
    }  # fmt: skip
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([program, "train", *arguments], check=True, capture_output=True)
    evaluation = subprocess.run(
        [program, "eval", "--checkpoint", out / "best", "--json"], check=True, capture_output=True, text=True
    )
    state = json.loads((out / "best" / "state.json").read_text())
    return {
        **dict(zip(SHAPE, [text, size, layers, heads, embd, context, batch, steps, dropout])),
        "train_tokens": round(len(corpus.read_text(encoding="utf-8")) * 0.9),
        "best_step": state["step"],
        "loss": round(json.loads(evaluation.stdout)["loss"], 4),
    }


def main():
    program = sys.argv[1]
    rows = list(csv.DictReader(RESULTS.open())) if RESULTS.exists() else []
    done = {key(row) for row in rows}
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not rows:
            writer.writeheader()
        for run in RUNS:
            text, size, shape, *rest = run
            if key(dict(zip(SHAPE, [text, size, *shape, *rest]))) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = train(program, run, folder)
            writer.writerow(row)
            file.flush()
            print(*row.values(), flush=True)


main()
