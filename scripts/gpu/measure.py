"""Runs the parts of scripts/gpu.sh, and stores and prints their results."""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import time

from bench import Bench
from parts import PARTS


def machine(bench):
    if bench.smoke:
        return "the CPU"
    if not shutil.which("nvidia-smi"):
        return "no nvidia-smi"
    return subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()


def shown(rows, left_out):
    lines = []
    for r in rows:
        value = "-" if r["value"] is None else f"{r['value']:.4g}" if r["value"] < 100 else f"{r['value']:.0f}"
        beside = ", ".join(f"{k} {v}" for k, v in (r["pytorch"] or {}).items())
        lines.append(f"{r['row']:44} {value:>9} {r['unit']:9} {beside:34} {'FAILED: ' + r['failed'] if r['failed'] else 'ok'} {r['note']}".rstrip())
    failed = sum(r["failed"] is not None for r in rows)
    lines.append(f"{len(rows)} rows, {failed} failed, {len(left_out)} parts left out{': ' + ', '.join(left_out) if left_out else ''}")
    return "\n".join(lines)


def pack(bench):
    """Packs all results into one file, without the runs of trainings."""
    with tarfile.open(f"{bench.out}.tar.gz", "w:gz") as tar:
        for path in sorted(bench.out.iterdir()):
            if path.is_file():
                tar.add(path, f"{bench.out.name}/{path.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--corpus")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no part after so many")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    asked.out = asked.out or ("gpu-results-smoke" if asked.smoke else "gpu-results")
    parts = asked.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"--parts {part}: there are {', '.join(PARTS)}")
    began = time.monotonic()
    bench = Bench(asked)
    table, rows, left_out = {}, [], []
    for part in parts:
        kept = bench.out / f"{part}.json"
        if kept.exists():
            found = json.loads(kept.read_text())
        elif time.monotonic() - began > asked.seconds:
            left_out.append(part)
            continue
        else:
            print(f"{part} ...", file=sys.stderr, flush=True)
            found = PARTS[part](bench)
            kept.with_suffix(".making").write_text(json.dumps(found))
            kept.with_suffix(".making").rename(kept)
            print(shown(found, []), file=sys.stderr, flush=True)
        table[part] = found
        rows += found
    (bench.out / "results.json").write_text(json.dumps({"machine": machine(bench), "torch": bench.torch, "parts": table}, indent=1))
    text = f"{machine(bench)}\n{shown(rows, left_out)}"
    (bench.out / "table.txt").write_text(text + "\n")
    pack(bench)
    print(text)
    sys.exit(bool(left_out) or any(r["failed"] is not None for r in rows))


main()
