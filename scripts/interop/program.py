"""Common functions of this folder's scripts: running mlx-gpt, and reporting failures."""

import argparse
import json
import subprocess
import sys
from pathlib import Path


class Problem(Exception):
    """A failed check, with a message for the user."""


def mlx_gpt(program, *arguments):
    """Runs the program, which must succeed, and returns its output; its messages go to the terminal."""
    command = [str(program), *map(str, arguments)]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Problem(f"{program} does not exist; run `cargo build`") from None
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
    if not abs(ours - theirs) <= tolerance:  # written so that NaN fails
        raise Problem(f"{what}: {ours} here, {theirs} there; the difference must be at most {tolerance}")


def arguments(description, *positional):
    """A parser of a script's command line: its positional paths, and the path of the program."""
    parser = argparse.ArgumentParser(description=description)
    for name in positional:
        parser.add_argument(name.lower(), metavar=name, type=Path)
    parser.add_argument("--mlx-gpt", type=Path, default=Path("target/debug/mlx-gpt"), help="default: %(default)s")
    return parser


def main(check, *arguments):
    """Runs a check; a failure becomes a message and exit status 1."""
    try:
        check(*arguments)
    except (Problem, OSError, ValueError) as problem:
        sys.exit(f"interop: {problem}")
