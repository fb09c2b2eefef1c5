"""Benchmarks this project's tokenizer against others. Run by scripts/bench_tokenizer.sh.

Each round measures every tokenizer once, alternating, so that a slower machine slows all of them; figures are medians over the
rounds. All get the same text and one thread, unless two are named.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# One thread for the others; read when they are loaded.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

ASSETS = Path(__file__).parent.parent / "assets" / "gpt2"
TIMES, MERGES = 10, 4096


class Ours:
    def __init__(self, program, file):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, file], stdin=pipe, stdout=pipe, text=True)

    def __call__(self, measurement):
        def seconds():
            print(measurement, file=self.process.stdin, flush=True)
            return float(self.process.stdout.readline())

        return seconds


def timed(work):
    def seconds():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return seconds


def tiktoken_gpt2():
    ranks = data_gym_to_mergeable_bpe_ranks(str(ASSETS / "vocab.bpe"), str(ASSETS / "encoder.json"))
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )


def tokenizers_gpt2():
    merges = [tuple(line.split(" ")) for line in (ASSETS / "vocab.bpe").read_text().splitlines()[1:]]
    vocabulary = tokenizers.models.BPE.read_file(str(ASSETS / "encoder.json"), str(ASSETS / "vocab.bpe"))[0]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def train(lines):
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + MERGES, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)


def medians(contestants, rounds):
    measured = {name: [] for name in contestants}
    for seconds in contestants.values():
        seconds()  # to warm up
    for _ in range(rounds):
        for name, seconds in contestants.items():
            measured[name].append(seconds())
    return {name: statistics.median(times) for name, times in measured.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    once = arguments.file.read_text()
    text = once * TIMES
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "once").write_text(once)
        (Path(folder) / "text").write_text(text)
        ours, ours_once = (Ours(arguments.program, f"{folder}/{name}") for name in ("text", "once"))
        megabytes = len(text.encode()) / 1e6
        print(f"{arguments.file}, {TIMES} times over: {megabytes:.1f} MB; medians of {arguments.rounds} rounds")

        encoding, library = tiktoken_gpt2(), tokenizers_gpt2()
        # The library stores much per token, so it gets the text in lines, as in common use.
        lines = text.splitlines(keepends=True)
        result = medians(
            {
                "mlx-gpt": ours("encode 1"),
                "mlx-gpt, two threads": ours("encode 2"),
                f"tiktoken {tiktoken.__version__}": timed(lambda: encoding.encode_ordinary(text)),
            },
            arguments.rounds,
        )
        slow = {f"tokenizers {tokenizers.__version__}": timed(lambda: library.encode_batch_fast(lines))}
        result |= medians(slow, 1)
        print("\nencoding with GPT-2's vocabulary")
        for name, seconds in result.items():
            print(f"  {name:<24} {megabytes / seconds:8.1f} MB/s   {result['mlx-gpt'] / seconds:6.2f} of mlx-gpt's speed")

        once_lines = once.splitlines(keepends=True)
        result = medians(
            {
                "mlx-gpt": ours_once("train"),
                f"tokenizers {tokenizers.__version__}": timed(lambda: train(once_lines)),
            },
            arguments.rounds,
        )
        print(f"\ntraining {MERGES} merges on the text once")
        for name, seconds in result.items():
            print(f"  {name:<24} {seconds:8.3f} s      {result['mlx-gpt'] / seconds:6.2f} of mlx-gpt's speed")

        result = medians({"GPT-2's": ours("load"), "GPT-4's": ours("load cl100k")}, arguments.rounds)
        print("\nloading")
        for name, seconds in result.items():
            print(f"  {name:<24} {seconds * 1000:8.1f} ms")


if __name__ == "__main__":
    main()
