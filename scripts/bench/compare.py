"""Benchmarks speed and memory against baselines. Run by scripts/bench.sh.

Each round measures every program, so that a slower machine slows all of them; figures are medians over the rounds. Memory is
the peak resident size of the process. A failing program ends the comparison.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
NANO = dict(layers=4, heads=4, embd=128, context=64, vocab=65, batch=12)
GPT2 = dict(layers=12, heads=12, embd=768, context=64, vocab=50257, batch=4)


def run(command, **environment):
    """A program's JSON output, and its peak resident megabytes."""
    environment = os.environ | environment
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"error: this ended with {process.returncode}: {' '.join(map(str, command))}")
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes there, kilobytes elsewhere
    return json.loads(output), usage.ru_maxrss / unit


def options(shape, **more):
    return [word for name, value in (shape | more).items() for word in (f"--{name}", value)]


def contestants(arguments):
    """The benchmarks: by name, a function that returns milliseconds per step or token, megabytes, and, for a training, the utilisation
    of sgemm."""
    steps, few = (arguments.steps, arguments.few_steps)
    threads = os.cpu_count()
    on_cpu = arguments.torch_device == "cpu"  # a GPU has no single-thread benchmark

    def ours(preset, only, steps, *more, kernels="on"):
        def measure():
            report, megabytes = run(
                [arguments.program, "bench", "--json", "--preset", preset, "--only", only, "--steps", steps, *more],
                MLX_GPT_KERNELS=kernels,
            )
            training = report["sizes"][0]["training"]
            phases = training["milliseconds"]
            return phases["data"] + phases["step"], megabytes, training["share_of_sgemm"]

        return measure

    def yardstick(python, script, *more):
        def measure():
            report, megabytes = run([python, HERE / script, *more])
            return report["milliseconds"], megabytes, None

        return measure

    def torch(shape, steps):
        more = options(shape, steps=steps, threads=threads, device=arguments.torch_device)
        return yardstick(arguments.torch, "torch_step.py", *more)

    def writing(preset):
        def ours():
            command = [arguments.program, "bench", "--json", "--preset", preset, "--only", "generation"]
            report, megabytes = run(command)
            return 1000 / report["sizes"][0]["generation"]["tokens_per_second"], megabytes, None

        def theirs():
            more = ["--size", preset, "--tokens", 50, "--device", arguments.torch_device]
            report, megabytes = run([arguments.torch, HERE / "torch_gpu.py", "generate", *more], OMP_NUM_THREADS=str(threads))
            return 1000 / report["tokens_per_second"], megabytes, None

        return ours, theirs

    turns = {
        "mlx-gpt nano": ours("nano", "training", steps),
        "torch nano, eager": torch(NANO, steps),
    }
    turns["mlx-gpt nano, a token"], turns["torch nano, a token"] = writing("nano")
    if on_cpu:
        turns["mlx-gpt nano, MLX's kernels"] = ours("nano", "training", steps, kernels="off")
        turns["mlx-gpt nano, one thread"] = ours("nano", "training", steps, "--threads", 1)
    if arguments.mlx_openblas:
        turns["mlx nano, compiled, OpenBLAS"] = yardstick(
            arguments.mlx_openblas, "mlx_step.py", "--compile", *options(NANO, steps=steps)
        )
    turns["mlx nano, as installed"] = yardstick(arguments.mlx, "mlx_step.py", *options(NANO, steps=few))
    if not arguments.only_nano:
        turns |= {
            "mlx-gpt 124M": ours("gpt2", "machine,training", few),
            "torch 124M, eager": torch(GPT2, few),
        }
        turns["mlx-gpt 124M, a token"], turns["torch 124M, a token"] = writing("gpt2")
        if on_cpu:
            turns["mlx-gpt 124M, MLX's kernels"] = ours("gpt2", "training", few, kernels="off")
    return turns


def row(what, value, goal):
    print(f"| {what:<52} | {value:>8} | {goal:>12} |")


def print_ratios(milliseconds, megabytes, shares):
    def speed(what, ours, theirs, goal):
        if theirs in milliseconds and ours in milliseconds:
            row(what, f"{milliseconds[theirs] / milliseconds[ours]:.2f} ×", goal)

    print()
    row("what", "measured", "at least")
    row("-" * 52, "-" * 7 + ":", "-" * 11 + ":")
    speed("train nano, against torch", "mlx-gpt nano", "torch nano, eager", "1.0 ×")
    speed("train nano, against mlx compiled with OpenBLAS", "mlx-gpt nano", "mlx nano, compiled, OpenBLAS", "2.0 ×")
    speed("train nano, against mlx as installed", "mlx-gpt nano", "mlx nano, as installed", "20 ×")
    speed("train 124M, 4 × 64 tokens, against torch", "mlx-gpt 124M", "torch 124M, eager", "1.0 ×")
    speed("write with nano, against torch", "mlx-gpt nano, a token", "torch nano, a token", "1.0 ×")
    speed("write with 124M, against torch", "mlx-gpt 124M, a token", "torch 124M, a token", "1.0 ×")
    if "mlx-gpt 124M" in megabytes:
        ratio = megabytes["mlx-gpt 124M"] / megabytes["torch 124M, eager"]
        row("peak memory, 124M, of torch's", f"{ratio:.2f} ×", "at most 0.8 ×")
        row("share of sgemm's rate, 124M", f"{100 * shares['mlx-gpt 124M']:.0f} %", "50 %")
    speed("all threads against one, nano", "mlx-gpt nano", "mlx-gpt nano, one thread", "1.6 ×")
    row("peak memory, nano", f"{megabytes['mlx-gpt nano']:.0f} MB", "at most 150 MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--torch", required=True, help="a Python that has torch")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--mlx", required=True, help="a Python that has mlx as it is installed")
    parser.add_argument("--mlx-openblas", help="a Python whose mlx has OpenBLAS under it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="steps of nano in a turn")
    parser.add_argument("--few-steps", type=int, default=5, help="steps in a turn of what takes seconds")
    parser.add_argument("--only-nano", action="store_true")
    arguments = parser.parse_args()

    measured = defaultdict(list)
    turns = contestants(arguments)
    for number in range(1, arguments.rounds + 1):
        for name, measure in turns.items():
            print(f"round {number} of {arguments.rounds}: {name}", file=sys.stderr)
            measured[name].append(measure())
    milliseconds, megabytes, shares = ({}, {}, {})
    print(f"medians of {arguments.rounds} round(s)\n\n| {'of':<30} |      ms | fastest to slowest |     MB |")
    print(f"| {'-' * 30} | {'-' * 6}: | {'-' * 17}: | {'-' * 5}: |")
    for name, turns in measured.items():
        times, sizes, parts = zip(*turns)
        milliseconds[name], megabytes[name] = statistics.median(times), statistics.median(sizes)
        if parts[0] is not None:
            shares[name] = statistics.median(parts)
        spread = f"{min(times):.2f} to {max(times):.2f}"
        print(f"| {name:<30} | {milliseconds[name]:7.2f} | {spread:>18} | {megabytes[name]:6.0f} |")
    print_ratios(milliseconds, megabytes, shares)


if __name__ == "__main__":
    main()
