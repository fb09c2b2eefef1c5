"""The parts of scripts/gpu.sh, which says what they are for. Each gives rows: what was measured, beside what it is held against."""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TESTS = ["parity", "parts", "generation", "quantized", "finetune", "resume"]


class Bench:
    """Where things are, and how they are run."""

    def __init__(self, asked):
        self.root = pathlib.Path(asked.root)
        self.out = pathlib.Path(asked.out).absolute()
        self.smoke, self.corpus = asked.smoke, asked.corpus and str(pathlib.Path(asked.corpus).absolute())
        self.device = "cpu" if asked.smoke else "gpu"
        self.out.mkdir(parents=True, exist_ok=True)
        self.program = self.find("bin/mlx-gpt", "target/release/mlx-gpt", "target/debug/mlx-gpt")
        self.environment = dict(os.environ, MLX_GPT_PROGRAM=str(self.program), RUST_BACKTRACE="0")
        self.torch = "the PyTorch of python3" if self.has_torch() else None

    def find(self, *places):
        # The newest, where Cargo left several.
        found = [p for place in places for p in self.root.glob(place) if os.access(p, os.X_OK) and p.suffix != ".d"]
        if not found:
            sys.exit(f"error: none of {', '.join(places)} is in {self.root}; run cargo build --tests")
        return found[0] if found[0].parts[-2] == "bin" else max(found, key=lambda p: p.stat().st_mtime)

    def has_torch(self):
        check = "import torch, sys; sys.exit(not (torch.cuda.is_available() or '--smoke' in sys.argv))"
        if self.smoke and subprocess.run([sys.executable, "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"]).returncode:
            return False
        arguments = ["--smoke"] if self.smoke else []
        return subprocess.run([sys.executable, "-c", check, *arguments], capture_output=True).returncode == 0

    def run(self, command, seconds, folder=None, **environment):
        """Gives the exit code, what it wrote, and the seconds. One that takes too long is ended, code 124."""
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder or self.out, env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            code = 124
        took = time.monotonic() - began
        with open(self.out / "log.txt", "a") as log:
            log.write(f"\n$ {' '.join(map(str, command))}    [{code}, {took:.1f} s]\n{out[-6000:]}{err[-6000:]}")
        return code, out, err, took

    def json(self, command, seconds, **environment):
        """The object that a command prints, or what it said instead."""
        code, out, err, _ = self.run(command, seconds, **environment)
        if code == 0:
            return json.loads(out.strip().splitlines()[-1])
        return {"error": f"exit {code}: {' '.join((err or out).split())[-200:]}"}

    def pytorch(self, words, seconds):
        if not self.torch:
            return None
        device = "cpu" if self.smoke else "cuda"
        return self.json([sys.executable, self.root / "scripts/bench/torch_gpu.py", *words, "--device", device], seconds)

    def train(self, options, folder, seconds, **environment):
        """A training, and the lines of its metrics."""
        run = pathlib.Path(folder) / "run"
        words = ["train", "--out", run, "--device", self.device, *options]
        code, _, err, took = self.run([self.program, *words], seconds, **environment)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] if (run / "metrics.jsonl").exists() else []
        return code, lines, err, took


def row(name, value, unit, against=None, least=None, most=None, failed=None, note=""):
    """A row of the table. It fails with a reason, or where the value is not within what is asked of it."""
    if failed is None and value is None:
        failed = "no figure"
    if failed is None and least is not None and value < least:
        failed = f"at least {least:g} was asked for"
    if failed is None and most is not None and value > most:
        failed = f"at most {most:g} was asked for"
    return {"row": name, "value": value, "unit": unit, "pytorch": against, "failed": failed, "note": note}


def compute(bench):
    """Numbers of the GPU against the CPU's; and with TF32, which is a real fault, that this is found."""
    rows = []
    words = ["doctor", "--device", bench.device, *([] if bench.smoke else ["--compute"])]  # tests/accuracy.rs is minutes on a CPU
    code, out, err, took = bench.run([bench.program, *words], 240)
    (bench.out / "compute.txt").write_text(out + err)
    rows.append(row(" ".join(["doctor", *words[3:]]), took, "s", failed=None if code == 0 else f"exit {code}: {(out + err).strip().splitlines()[-1:]}"))
    if bench.device == "gpu":
        code, out, err, took = bench.run([bench.program, "doctor", "--compute"], 240, MLX_ENABLE_TF32="1")
        rows.append(row("doctor --compute finds TF32", took, "s", failed=None if code == 1 else f"exit {code} instead of 1"))
    return rows


def tests(bench):
    rows = []
    environment = {"MLX_GPT_TEST_DEVICE": bench.device, "MLX_GPT_TEST_FIXTURES": str(bench.root / "tests/fixtures")}
    if bench.device == "gpu":
        environment["MLX_GPT_TEST_PROGRAM"] = str(bench.root / "scripts/gpu/on_gpu")
    else:
        environment["MLX_GPT_TEST_PROGRAM"] = str(bench.program)
    for threads in ["8"] if bench.smoke else ["8", "1"]:
        for name in ["parts"] if bench.smoke else TESTS:
            binary = bench.find(f"bin/tests/{name}", f"target/*/deps/{name}-*")
            code, out, err, took = bench.run([binary, "--test-threads", threads], 110, bench.root, **environment)
            passed = re.search(r"(\d+) passed", out)
            failures = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", out, re.MULTILINE)))
            failed = None if code == 0 else f"exit {code}: {', '.join(failures) or (out + err).strip().splitlines()[-1:]}"
            rows.append(row(f"tests {name}, {threads} threads", int(passed[1]) if passed else None, "passed", failed=failed, note=f"{took:.0f} s"))
    return rows


def first_step(bench):
    """From a start with nothing compiled to the first step's line."""
    options = ["--preset", "nano"] if bench.smoke else ["--preset", "baby", "--optimizer", "adamw", "--dtype", "bfloat16"]
    rows = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for name, most in [("nothing compiled to the first step", 30), ("the same with kernels kept", 15)]:
            shutil.rmtree(pathlib.Path(folder) / "run", ignore_errors=True)
            options_now = [*options, "--steps", "2", "--eval-batches", "1"]
            # A CPU's kernels are not what this is about, and take g++ half a minute.
            fresh = {} if bench.smoke else {"XDG_CACHE_HOME": cache}
            code, lines, err, took = bench.train(options_now, folder, 200, **fresh)
            began = [line for line in lines if "loss" in line]
            rows.append(row(name, took, "s", most=None if bench.smoke else most, failed=None if code == 0 and began else f"exit {code}: {err[-200:]}", note="two steps, evaluated and saved"))
    return rows


def steps_of(lines, warm):
    """Milliseconds a step by the lines of metrics after a warm-up, from the tokens a second that they say."""
    rates = sorted(line["tokens_per_second"] for line in lines if "tokens_per_second" in line and line["step"] > warm)
    return rates[len(rates) // 2] if rates else None


def timed(bench, name, options, tokens, warm, size, ways, least):
    """Trainings that are timed, each format beside the ways that PyTorch has."""
    rows = []
    for dtype, torch_ways in ways.items():
        peers = {}
        for way in torch_ways:
            words = ["train", "--size", "tiny" if bench.smoke else size, "--dtype", dtype, *(["--compile"] if way == "compiled" else [])]
            peer = bench.pytorch(words, 150)
            if peer:
                peers[way] = peer
        with tempfile.TemporaryDirectory() as folder:
            code, lines, err, _ = bench.train([*options, "--dtype", dtype], folder, 150)
        rate = steps_of(lines, warm)
        milliseconds = 1e3 * tokens / rate if rate else None
        memory = max((line.get("memory", 0) for line in lines), default=0) / 2**20
        failed = None if code == 0 else f"exit {code}: {' '.join(err.split())[-200:]}"
        times = {way: peer["milliseconds"] for way, peer in peers.items() if "milliseconds" in peer}
        errors = "; ".join(f"PyTorch {way}: {peer['error']}" for way, peer in peers.items() if "error" in peer)
        for way, time_of in times.items():
            share = least.get(way)
            if milliseconds and share and not bench.smoke and failed is None and time_of / milliseconds < share:
                failed = f"{time_of / milliseconds:.2f} times PyTorch {way}; {share:g} was asked for"
        rows.append(row(f"{name} {dtype}, a step", milliseconds, "ms", against={k: round(v, 2) for k, v in times.items()} or None, failed=failed, note=errors))
        peak = min((peer["memory"] / 2**20 for peer in peers.values() if peer.get("memory")), default=None)
        rows.append(row(f"{name} {dtype}, memory", memory, "MiB", against=peak and {"least": round(peak)}, most=peak, note=""))
    return rows


def gpt2(bench):
    options = ["--preset", "gpt2", "--tokenizer", "gpt2", "--batch-size", "16", "--grad-accum", "1", "--steps", "60", "--warmup", "10"]
    options += ["--eval-every", "60", "--eval-batches", "1", "--save-every", "60", "--optimizer", "adamw"]
    tokens = 16 * 1024
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--steps", "12", "--eval-batches", "1", "--warmup", "1"]
        tokens = 64
    return timed(bench, "124M", options, tokens, 10, "gpt2", {"bfloat16": ["eager", "compiled"]}, {"eager": 1.0, "compiled": 0.8})


def baby(bench):
    options = ["--preset", "baby", "--optimizer", "adamw", "--steps", "300", "--eval-every", "300", "--eval-batches", "1", "--save-every", "300"]
    tokens = 64 * 256
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--steps", "12", "--eval-batches", "1", "--warmup", "1"]
        tokens = 64
    return timed(bench, "baby", options, tokens, 40, "baby", {"bfloat16": ["eager", "compiled"], "float32": ["eager"]}, {"eager": 1.0, "compiled": 1.0})


def generation(bench):
    """Text of a model of 124 million parameters, one sequence and sixteen: tokens a second of all rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shape = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "64"] if bench.smoke else ["--preset", "gpt2", "--tokenizer", "gpt2"]
        options = [*shape, "--batch-size", "2", "--grad-accum", "1", "--steps", "1", "--warmup", "0", "--eval-batches", "1"]
        code, _, err, _ = bench.train(options, folder, 100)
        if code:
            return [row("generation", None, "tokens/s", failed=f"no checkpoint: {err[-200:]}")]
        short, long = (4, 24) if bench.smoke else (50, 250)
        for batch in [1, 16]:
            def seconds(count):
                words = ["generate", "--checkpoint", f"{folder}/run", "--device", bench.device, "--samples", batch, "--max-new-tokens", count]
                code, _, err, took = bench.run([bench.program, *words, "--temperature", "0", "--prompt", "the", "--json"], 60)
                return took if code == 0 else sys.exit(err)
            try:
                seconds(short)
                took = min(seconds(long) for _ in range(2)) - min(seconds(short) for _ in range(2))
            except SystemExit as error:
                rows.append(row(f"124M, {batch} rows", None, "tokens/s", failed=str(error)[-200:]))
                continue
            peer = bench.pytorch(["generate", "--size", "tiny" if bench.smoke else "gpt2", "--batch", str(batch)], 90)
            other = peer and peer.get("tokens_per_second")
            rate = batch * (long - short) / max(took, 1e-3)
            rows.append(row(f"124M writes, {batch} rows", rate, "tokens/s", against=other and {"eager": round(other)}, least=None if bench.smoke else other, note=(peer or {}).get("error", "")))
    return rows


def recipe(bench):
    """nanoGPT's recipe for baby to its end."""
    if not bench.smoke and not bench.corpus:
        return [row("baby by nanoGPT's recipe", None, "loss", failed="needs --corpus FILE, tiny Shakespeare: scripts/tinyshakespeare.sh makes it")]
    options = ["--preset", "baby", "--optimizer", "adamw", "--dtype", "bfloat16"] + (["--corpus", bench.corpus] if bench.corpus else [])
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--steps", "20", "--eval-every", "10", "--warmup", "1"]
    folder = bench.out / "recipe"
    shutil.rmtree(folder, ignore_errors=True)
    code, lines, err, took = bench.train(options, folder, 220)
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    for large in folder.glob("run/step-*"):
        shutil.rmtree(large)
    failed = None if code == 0 else f"exit {code}: {' '.join(err.split())[-200:]}"
    best = min(losses, default=None)
    return [row("baby by nanoGPT's recipe, best loss", best, "nats", against={"published": 1.4697}, most=None if bench.smoke else 1.48, failed=failed, note=f"{took:.0f} s in all")]


def waits(bench):
    """How often a step waits for the device, by two trainings that differ in their steps."""
    options = ["--preset", "baby", "--optimizer", "adamw", "--dtype", "bfloat16", "--eval-every", "1000", "--save-every", "1000", "--eval-batches", "1"]
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--eval-batches", "1", "--warmup", "1", "--threads", "1"]
    counts = []
    for steps in [10, 40]:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "waits"
            code, _, err, _ = bench.train([*options, "--steps", steps], folder, 100, MLX_GPT_COUNT_WAITS=str(file))
            if code or not file.exists():
                return [row("waits a step", None, "", failed=f"exit {code}: {' '.join(err.split())[-200:]}" if code else "not counted")]
            counts.append(int(file.read_text()))
    return [row("waits a step", (counts[1] - counts[0]) / 30, "", most=1)]


PARTS = {part.__name__.replace("_", "-"): part for part in [compute, tests, first_step, gpt2, baby, generation, recipe, waits]}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", default="gpu-results")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--corpus")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no part after so many")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
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
    print(text)
    sys.exit(bool(left_out) or any(r["failed"] is not None for r in rows))


main()
