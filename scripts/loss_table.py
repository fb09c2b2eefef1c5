"""Prints a run's losses by step as a Markdown table, from its metrics.jsonl.

    python3 scripts/loss_table.py runs/NAME
"""

import json
import sys
from pathlib import Path

if len(sys.argv) != 2:
    sys.exit(__doc__.strip())
path = Path(sys.argv[1]) / "metrics.jsonl"
try:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
except OSError as error:
    sys.exit(f"error: {path} cannot be read ({error.strerror}); give the folder of a run")

speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
print("| step | train loss | validation loss |")
print("| ---: | ---: | ---: |")
for line in lines:
    if "val_loss" in line:
        print(f"| {line['step']} | {line['train_loss']:.4f} | {line['val_loss']:.4f} |")
if speeds:
    print(f"\n{sorted(speeds)[len(speeds) // 2]:,.0f} tokens a second (median)")
