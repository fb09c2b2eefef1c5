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
    # A run that died may have left half a line at the end.
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
except OSError as error:
    sys.exit(f"error: {path} cannot be read ({error.strerror}); give the folder of a run")

speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
print("| step | train loss | validation loss |")
print("| ---: | ---: | ---: |")
for line in lines:
    if "val_loss" in line:
        print(f"| {line['step']} | {line['train_loss']:.4f} | {line['val_loss']:.4f} |")
memory = {line["step"]: line["memory"] for line in lines if "memory" in line}
if len(memory) > 1:
    early, late = sorted(memory)[len(memory) // 10], max(memory)
    print(f"\nmemory at step {late}: {memory[late] / memory[early]:.4f} times that at step {early}")
if speeds:
    print(f"\n{sorted(speeds)[len(speeds) // 2]:,.0f} tokens a second (median)")
