"""Paths, processes and table rows of scripts/gpu.sh."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time


class Bench:
    """Paths of programs and tests, and functions that run them."""

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
        # The newest, if Cargo left several.
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
        """Returns the exit code, the output, and the seconds. A command that takes too long is killed, with code 124."""
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
            log.write(f"\n$ {' '.join(map(str, command))}    [{code}, {took:.1f} s]\n{out}{err}")
        return code, out, err, took

    def json(self, command, seconds, **environment):
        """The JSON object that a command prints, or its message if it fails."""
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
        """Runs a training, and returns its metrics."""
        run = pathlib.Path(folder) / "run"
        words = ["train", "--out", run, "--device", self.device, *options]
        code, _, err, took = self.run([self.program, *words], seconds, **environment)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] if (run / "metrics.jsonl").exists() else []
        return code, lines, err, took


def row(name, value, unit, against=None, least=None, most=None, failed=None, note=""):
    """A row of the table. It fails if there is a reason, or if the value is outside its limits."""
    if failed is None and value is None:
        failed = "no figure"
    if failed is None and least is not None and value < least:
        failed = f"at least {least:g} was asked for"
    if failed is None and most is not None and value > most:
        failed = f"at most {most:g} was asked for"
    return {"row": name, "value": value, "unit": unit, "pytorch": against, "failed": failed, "note": note}
