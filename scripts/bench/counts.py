"""Counts the calls of MLX in a training step, with gdb's breakpoints at the symbols of its C interface. Run by
scripts/bench.sh:

    python3 scripts/bench/counts.py target/release/mlx-gpt

Calls per step are the difference of two runs of `bench --only training` divided by the difference in steps. One thread, as on a
GPU, where every evaluation or wait is a synchronisation of CPU and GPU.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Written by scripts/linux/setup.sh: all functions of the C interface with their parameters.
BINDINGS = Path(".mlx/lib/bindings.rs")
# `bench` calls this after the last step that it times, and not before.
END = "mlx_get_peak_memory"
# Categories by patterns of names; all other functions with a stream parameter record an operation.
KINDS = {
    "evaluations of a graph": r"mlx_(async_)?eval",
    "waits for an array": r"mlx_array_eval|mlx_synchronize.*",
    "reads of numbers": r"mlx_array_(item|data)_.*",
    "calls of compiled functions": r"mlx_closure_apply",
    "functions traced or differentiated": r"mlx_compile|mlx_value_and_grad|mlx_closure_value_and_grad_apply|mlx_[jv][vj]p",
}
OPERATIONS = "operations written down outside of them"


def functions(program):
    """The functions with breakpoints, and their categories."""
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    linked = set(re.findall(r" T (mlx_\w+)$", symbols, re.MULTILINE))
    if not linked:
        sys.exit(f"error: {program} has no symbols of mlx-c; give one that is not stripped")
    takes = dict(re.findall(r"pub fn (mlx_\w+)\(([^)]*)\)", BINDINGS.read_text()))
    found = {}
    for name in sorted(linked):
        kind = next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), None)
        operation = re.search(r"\bs: mlx_stream\b", takes.get(name, "")) is not None
        if kind or operation:
            found[name] = kind or OPERATIONS
    return found


def calls(program, names, steps, folder):
    """How often a training of that many steps calls each function."""
    commands = ["set pagination off", "set breakpoint pending off", "set language c"]
    commands += ["set breakpoint always-inserted on"]  # each stop would write hundreds of them anew
    # Stopped twice: after two steps, when all is traced, and at the end. The breakpoints between are made
    # late, for gdb looks each of them up anew with every library that is loaded.
    commands += [f"break *{END}", "tbreak *mlx_async_eval", "ignore 2 2", "run"]
    for number, name in enumerate(names, 3):
        commands += [f"break *{name}", f"ignore {number} 2000000000"]  # counted, and never stopped at
    commands += ["continue", "info breakpoints", "kill"]
    script = folder / "commands"
    script.write_text("\n".join(commands) + "\n")
    bench = f"bench --only training --preset nano --device cpu --threads 1 --steps {steps} --json".split()
    gdb = ["gdb", "--batch", "-nx", "-x", script, "--args", program, *bench]
    said = subprocess.run(gdb, capture_output=True, text=True).stdout
    hits = {name: int(count) for name, count in re.findall(r"<(mlx_\w+)>\s+breakpoint already hit (\d+) time", said)}
    if END not in hits:
        sys.exit(f"error: training under gdb failed: {said[-400:]}")
    return hits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--steps", type=int, nargs=2, default=[20, 40])
    arguments = parser.parse_args()
    if not shutil.which("gdb"):
        sys.exit("error: counting calls needs gdb, which is missing; install it with: apt-get install gdb")
    few, many = arguments.steps

    kinds = functions(arguments.program)
    print(f"counting calls of {len(kinds)} functions with gdb, in two short runs", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        fewer, more = (calls(arguments.program, kinds, steps, Path(folder)) for steps in (few, many))
    each = {name: (more.get(name, 0) - fewer.get(name, 0)) / (many - few) for name in kinds}
    print(f"\n| {'calls of mlx-c a step of nano, one thread':<41} | a step |    of    |\n| {'-' * 41} | -----: | -------- |")
    for kind in [*KINDS, OPERATIONS]:
        names = {name: count for name, count in each.items() if kinds[name] == kind and count}
        print(f"| {kind:<41} | {sum(names.values()):>6g} | {', '.join(names):<8} |")


if __name__ == "__main__":
    main()
