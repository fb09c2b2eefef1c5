"""The parts of scripts/gpu.sh. Each returns rows: a measurement with its reference."""

import pathlib
import re
import shutil
import sys
import tempfile

from bench import row

# Test programs, each with the modules of it that compute; none are all of them.
TESTS = {"parity": [], "components": [], "generation": [], "checkpoint": ["quantized::", "finetune::"], "resume": []}


def last_line(text):
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def compute(bench):
    """Compares the GPU's results with the CPU's, and checks that TF32, a real fault, is detected."""
    if bench.smoke:  # comparing takes a CPU a minute; tests/cli/accuracy.rs does
        code, out, err, took = bench.run([bench.program, "doctor", "--device", "cpu"], 240)
        return [row("doctor", took, "s", failed=None if code == 0 else last_line(out + err))]
    words = [bench.program, "doctor", "--device", "gpu", "--compute"]
    code, out, err, took = bench.run(words, 240)
    compared = re.findall(r"\| *(right|WRONG) *\|$", out, re.MULTILINE)
    rows = [row("doctor --compute", len(compared), "compared", failed=None if code == 0 and compared else last_line(out + err), note=f"{took:.0f} s")]
    code, out, err, took = bench.run(words, 240, MLX_ENABLE_TF32="1")
    # The expected error: only float32 rows are wrong, and doctor says that products round.
    wrong = re.findall(r"^\| *(.*?) *\| *(\S+) *\| *(.*?) *\|.*\| *WRONG *\|$", out, re.MULTILINE)
    found = code == 1 and wrong and {precision for _, precision, _ in wrong} == {"float32"} and "round their factors to TF32" in out
    rows.append(row("doctor --compute finds TF32", len(wrong), "wrong", failed=None if found else f"exit {code}, wrong: {wrong[:4]}"))
    return rows


def tests(bench):
    rows = []
    environment = {"MLX_GPT_TEST_DEVICE": bench.device, "MLX_GPT_TEST_FIXTURES": str(bench.root / "tests/fixtures")}
    if bench.device == "gpu":
        environment["MLX_GPT_TEST_PROGRAM"] = str(bench.root / "scripts/gpu/on_gpu")
    else:
        environment["MLX_GPT_TEST_PROGRAM"] = str(bench.program)
    for threads in ["8"] if bench.smoke else ["8", "1"]:
        for name in ["components"] if bench.smoke else TESTS:
            binary = bench.find(f"bin/tests/{name}", f"target/*/deps/{name}-*")
            code, out, err, took = bench.run([binary, *TESTS[name], "--test-threads", threads], 110, bench.root, **environment)
            passed = re.search(r"(\d+) passed", out)
            failures = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", out, re.MULTILINE)))
            failed = None if code == 0 else f"exit {code}: {', '.join(failures) or last_line(out + err)}"
            rows.append(row(f"tests {name}, {threads} threads", int(passed[1]) if passed else None, "passed", failed=failed, note=f"{took:.0f} s"))
    return rows


def first_step(bench):
    """Time of a training of two steps from its start to its end, with an empty kernel cache and with a filled one."""
    options = ["--preset", "nano"] if bench.smoke else ["--preset", "baby", "--optimizer", "adamw", "--dtype", "bfloat16"]
    rows = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for name, most in [("two steps with nothing compiled", 30), ("the same with kernels kept", 15)]:
            shutil.rmtree(pathlib.Path(folder) / "run", ignore_errors=True)
            options_now = [*options, "--steps", "2", "--eval-batches", "1"]
            # Kernels of the CPU are irrelevant here, and take g++ half a minute.
            fresh = {} if bench.smoke else {"XDG_CACHE_HOME": cache}
            code, lines, err, took = bench.train(options_now, folder, 200, **fresh)
            began = [line for line in lines if "loss" in line]
            rows.append(row(name, took, "s", most=None if bench.smoke else most, failed=None if code == 0 and began else f"exit {code}: {err[-200:]}", note="two steps, evaluated and saved"))
    return rows


def median_rate(lines, warm):
    """Median of the metrics' tokens per second after a warm-up."""
    rates = sorted(line["tokens_per_second"] for line in lines if "tokens_per_second" in line and line["step"] > warm)
    return rates[len(rates) // 2] if rates else None


def timed(bench, name, options, tokens, warm, size, ways, least):
    """Times trainings in each number format, against the variants of PyTorch."""
    rows = []
    for dtype, torch_ways in ways.items():
        peers = {}
        for way in torch_ways[: 1 if bench.smoke else None]:  # on a CPU torch.compile takes minutes
            words = ["train", "--size", "tiny" if bench.smoke else size, "--dtype", dtype, *(["--compile"] if way == "compiled" else [])]
            peer = bench.pytorch(words, 150)
            if peer:
                peers[way] = peer
        with tempfile.TemporaryDirectory() as folder:
            code, lines, err, _ = bench.train([*options, "--dtype", dtype], folder, 150)
        rate = median_rate(lines, warm)
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
    return timed(bench, "124M", options, tokens, 0 if bench.smoke else 10, "gpt2", {"bfloat16": ["eager", "compiled"]}, {"eager": 1.0, "compiled": 0.8})


def baby(bench):
    options = ["--preset", "baby", "--optimizer", "adamw", "--steps", "300", "--eval-every", "300", "--eval-batches", "1", "--save-every", "300"]
    tokens = 64 * 256
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--steps", "12", "--eval-batches", "1", "--warmup", "1"]
        tokens = 64
    return timed(bench, "baby", options, tokens, 0 if bench.smoke else 40, "baby", {"bfloat16": ["eager", "compiled"], "float32": ["eager"]}, {"eager": 1.0, "compiled": 1.0})


def generation(bench):
    """Text generation with 124 million parameters, one sequence and sixteen: total tokens per second."""
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
    """Trains nanoGPT's recipe for baby to its end."""
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
    """How often a step waits for the device, from two trainings with different numbers of steps."""
    options = ["--preset", "baby", "--optimizer", "adamw", "--dtype", "bfloat16", "--eval-every", "1000", "--save-every", "1000", "--eval-batches", "1"]
    if bench.smoke:
        options = ["--layers", "2", "--heads", "2", "--embd", "16", "--context", "16", "--batch-size", "4", "--eval-batches", "1", "--warmup", "1", "--threads", "1"]
    counts = []
    for steps in [10, 40]:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "waits"
            code, _, err, _ = bench.train([*options, "--steps", steps], folder, 100, MLX_GPT_COUNT_WAITS=str(file))
            if code or not (bench.smoke or file.exists()):
                return [row("waits a step", None, "", failed=f"exit {code}: {' '.join(err.split())[-200:]}" if code else "not counted")]
            counts.append(0 if bench.smoke else int(file.read_text()))
    if bench.smoke:  # cuda/waits.cpp counts, which is not part of a CPU build
        return [row("trainings to count waits in", len(counts), "")]
    return [row("waits a step", (counts[1] - counts[0]) / 30, "", most=1)]


# In order of importance.
PARTS = {part.__name__.replace("_", "-"): part for part in [compute, tests, first_step, gpt2, baby, generation, recipe, waits]}
