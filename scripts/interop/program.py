"""What all scripts of this folder share: running mlx-gpt, and saying what is wrong."""

import argparse
import json
import subprocess
import sys
from pathlib import Path


class Problem(Exception):
    """What is not as it should be, in words for the user."""


def mlx_gpt(program, *arguments):
    """Runs the program, which must succeed, and gives what it prints; its own messages go to the terminal."""
    command = [str(program), *map(str, arguments)]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Problem(f"there is no {program}: `cargo build` makes it") from None
    if run.returncode != 0:
        raise Problem(f"{' '.join(command)} failed with status {run.returncode}")
    return run.stdout


def mlx_gpt_json(program, *arguments):
    printed = mlx_gpt(program, *arguments, "--json")
    try:
        return json.loads(printed)
    except ValueError:
        raise Problem(f"{program} {' '.join(map(str, arguments))} printed no JSON object") from None


def check_close(what, ours, theirs, tolerance):
    if not abs(ours - theirs) <= tolerance:  # put this way round so that NaN is a difference
        raise Problem(f"{what}: {ours} here, {theirs} there; the difference must be at most {tolerance}")


def arguments(description, *positional):
    """A parser of a script's command line: its positional paths, and where the program is."""
    parser = argparse.ArgumentParser(description=description)
    for name in positional:
        parser.add_argument(name.lower(), metavar=name, type=Path)
    parser.add_argument("--mlx-gpt", type=Path, default=Path("target/debug/mlx-gpt"), help="default: %(default)s")
    return parser


def main(check, *arguments):
    """Runs a check; what is wrong becomes a sentence and exit status 1."""
    try:
        check(*arguments)
    except (Problem, OSError, ValueError) as problem:
        sys.exit(f"interop: {problem}")
