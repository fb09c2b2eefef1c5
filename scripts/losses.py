"""Trains a recipe with several seeds and prints the exact validation loss of each, their mean and standard deviation.

    python3 scripts/losses.py -- --corpus data/tinyshakespeare.txt --optimizer adamw
    python3 scripts/losses.py --seeds 1,2,3 --out losses -- --arch modern --steps 250

Arguments after `--` are passed to `mlx-gpt train`. Existing runs are not trained again.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default="target/debug/mlx-gpt")
parser.add_argument("--seeds", default="1337,11,22,33,44,55")
parser.add_argument("--out", type=Path, default=Path("runs/losses"), help="the folder of the runs")
parser.add_argument("recipe", nargs="*", help="options of mlx-gpt train")
options = parser.parse_args()

name = "-".join(word.strip("-").replace("/", "_") for word in options.recipe) or "default"
losses = []
for seed in options.seeds.split(","):
    run = options.out / name / f"seed-{seed}"
    begun = (run / "config.toml").exists()  # a run that has ended takes no further step
    rest = ["--resume", str(run)] if begun else [*options.recipe, "--seed", seed, "--out", str(run)]
    subprocess.run([options.program, "train", *rest], check=True, stdout=subprocess.DEVNULL)
    command = [options.program, "eval", "--checkpoint", str(run / "latest"), "--split", "val", "--json"]
    losses.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["loss"])
    print(f"seed {seed:>6}  {losses[-1]:.4f}", flush=True)
spread = statistics.stdev(losses) if len(losses) > 1 else float("nan")
print(f"{' '.join(options.recipe) or 'default'}: {statistics.mean(losses):.4f} ± {spread:.4f} ({len(losses)} seeds)")
