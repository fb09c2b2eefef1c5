"""Prints size, loss and speed of a checkpoint quantized with several bits and group sizes.

    python scripts/quantization_table.py CHECKPOINT [--corpus TEXT] [--mlx-gpt target/debug/mlx-gpt]

Exports the checkpoint with `mlx-gpt export --format mlx` for 8 and 4 bits in groups of 32, 64 and 128, measures each with
`mlx-gpt eval` (on the run's validation text, or on all of --corpus) and `mlx-gpt generate` (median of three runs of
200 tokens), and prints a Markdown table. The exports go to a temporary folder.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS = 200


def run(program, *arguments):
    """Standard output and standard error of the program."""
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{program} {arguments[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout, done.stderr


def measure(program, folder, corpus, context):
    evaluation = json.loads(run(program, "eval", "--checkpoint", folder, *corpus, "--json")[0])
    speeds = []
    for seed in range(3):
        _, said = run(
            program, "generate", "--checkpoint", folder, "--max-new-tokens", min(TOKENS, context), "--seed", seed,
            "--ignore-eos",
        )  # fmt: skip
        speeds.append(float(re.search(r"tokens, ([\d.]+) a second", said)[1]))
    weights = sum(file.stat().st_size for file in Path(folder).glob("model*.safetensors"))
    return weights, evaluation["loss"], statistics.median(speeds)


def main():
    parser = argparse.ArgumentParser(description="What quantizing a checkpoint costs and gains.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", help="default: the validation text of the checkpoint's run")
    parser.add_argument("--mlx-gpt", type=Path, default=Path("target/debug/mlx-gpt"), help="default: %(default)s")
    arguments = parser.parse_args()
    program, checkpoint = arguments.mlx_gpt, arguments.checkpoint
    if (checkpoint / "latest").exists():
        checkpoint = checkpoint / "latest"
    corpus = ["--corpus", arguments.corpus, "--split", "all"] if arguments.corpus else []
    config = json.loads((checkpoint / "config.json").read_text())

    if not corpus:  # exports don't record their corpus
        settings = (checkpoint.resolve().parent / "config.toml").read_text()
        name = next(line.split('"')[1] for line in settings.splitlines() if line.startswith("corpus"))
        corpus = ["--corpus", name, "--split", "val"]
    print("| weights | size | relative to float32 | loss | difference from float32 | tokens/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    full_size, full_loss, speed = measure(program, checkpoint, corpus, config["n_positions"])
    print(f"| float32 | {full_size / 1e6:.2f} MB | 1.00 | {full_loss:.4f} | | {speed:.0f} |")
    with tempfile.TemporaryDirectory() as work:
        for bits in (8, 4):
            for group_size in (32, 64, 128):
                if config["n_embd"] % group_size:
                    continue
                out = Path(work) / f"{bits}-{group_size}"
                run(
                    program, "export", "--checkpoint", checkpoint, "--format", "mlx", "--bits", bits, "--group-size",
                    group_size, "--out", out,
                )  # fmt: skip
                size, loss, speed = measure(program, out, corpus, config["n_positions"])
                print(
                    f"| {bits} bits, groups of {group_size} | {size / 1e6:.2f} MB | {size / full_size:.2f} | {loss:.4f} "
                    f"| {loss - full_loss:+.4f} | {speed:.0f} |"
                )


if __name__ == "__main__":
    main()
