#!/usr/bin/env python3
"""Fits the law of src/measure/budget/law.rs to the runs of sweeps/law.csv, and prints its constants.

    python3 scripts/fit_law.py [--figure docs/minutes.svg]

L = s (E + A N^-alpha + B D'^-beta + C / T). A text's scale s is that at which its pilot, the 150 steps of the smallest model, has the
loss that was measured, as in the program. Least squares over all runs but the pilots, by Nelder and Mead's simplex on the constants'
logarithms, each held near a start value by a standard deviation of a factor of e.
"""

import csv
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["E", "A", "ALPHA", "B", "BETA", "C", "R"]
# About Hoffmann et al.'s and Muennighoff et al.'s exponents, and a loss of tiny Shakespeare.
START = [1.0, 0.1, 0.5, 0.4, 0.3, 4.0, 4.0]
# Losses of two seeds differ by about this much.
NOISE = 0.015


def is_pilot(row):
    return (row["layers"], row["embd"], row["context"], row["steps"]) == ("2", "64", "64", "150")


def law(constants, row):
    e, a, alpha, b, beta, c, r = constants
    layers, embd, context = (int(row[name]) for name in ("layers", "embd", "context"))
    seen = int(row["steps"]) * int(row["batch"]) * context
    distinct = int(row["train_tokens"])
    repeated = max(0.0, seen / distinct - 1)
    effective = min(seen, distinct) + distinct * r * (1 - math.exp(-repeated / r))
    return e + a * (12e-6 * layers * embd**2) ** -alpha + b * (effective / 1e6) ** -beta + c / context


def predictions(constants, rows):
    """(row, loss that the law expects of it) for all runs but the pilots."""
    pilots = {(row["text"], row["bytes"]): row for row in rows if is_pilot(row)}
    for row in rows:
        pilot = pilots.get((row["text"], row["bytes"]))
        if pilot is not None and pilot is not row:
            yield row, float(pilot["loss"]) * law(constants, row) / law(constants, pilot)


def objective(logarithms, rows):
    constants = [math.exp(x) for x in logarithms]
    errors = [float(row["loss"]) - expected for row, expected in predictions(constants, rows)]
    # A scale of 1 is that of the text of the first pilot.
    first = next(row for row in rows if is_pilot(row))
    errors.append(float(first["loss"]) - law(constants, first))
    near = sum((x - math.log(start)) ** 2 for x, start in zip(logarithms, START))
    return sum((error / NOISE) ** 2 for error in errors) + near


def minimize(function, start):
    """Nelder and Mead's simplex method, begun again from where it ends until that changes nothing."""
    best, lowest = list(start), function(start)
    while True:
        points = [best] + [[x + 0.3 * (i == j) for j, x in enumerate(best)] for i in range(len(best))]
        simplex = sorted((function(point), point) for point in points)
        for _ in range(2000):
            if simplex[-1][0] - simplex[0][0] < 1e-10:
                break
            center = [sum(point[i] for _, point in simplex[:-1]) / len(best) for i in range(len(best))]
            worst = simplex[-1][1]

            def at(factor):
                point = [c + factor * (w - c) for c, w in zip(center, worst)]
                return function(point), point

            reflected = at(-1.0)
            if reflected[0] < simplex[0][0]:
                simplex[-1] = min(reflected, at(-2.0))
            elif reflected[0] < simplex[-2][0]:
                simplex[-1] = reflected
            else:
                contracted = at(0.5) if reflected[0] >= simplex[-1][0] else at(-0.5)
                if contracted[0] < min(reflected[0], simplex[-1][0]):
                    simplex[-1] = contracted
                else:
                    first = simplex[0][1]
                    shrunk = [[(x + y) / 2 for x, y in zip(point, first)] for _, point in simplex[1:]]
                    simplex = [simplex[0]] + [(function(point), point) for point in shrunk]
            simplex.sort()
        value, best = simplex[0]
        if lowest - value < 1e-7:
            return best
        lowest = value


def deviation(pairs):
    """Two thirds of the errors are smaller."""
    errors = sorted(abs(float(row["loss"]) - expected) for row, expected in pairs)
    return errors[min(len(errors) - 1, 2 * len(errors) // 3)]


def figure(pairs):
    """Expected against measured losses, as SVG."""
    values = [value for row, expected in pairs for value in (float(row["loss"]), expected)]
    low, high = math.floor(10 * min(values)) / 10, math.ceil(10 * max(values)) / 10
    size, margin = 420, 50

    def x(value):
        return margin + (value - low) / (high - low) * (size - 2 * margin)

    def y(value):
        return size - x(value)

    colors = {"shakespeare": "#2a6fb0", "rust": "#c1571f"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="12">',
        f'<rect width="{size}" height="{size}" fill="white"/>',
        f'<path d="M{x(low):.1f} {y(low):.1f}L{x(high):.1f} {y(high):.1f}" stroke="#999"/>',
    ]
    tick = low
    while tick <= high + 1e-9:
        parts.append(f'<text x="{x(tick):.1f}" y="{size - margin + 18}" text-anchor="middle">{tick:.1f}</text>')
        parts.append(f'<text x="{margin - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
        tick += 0.2 if high - low > 0.9 else 0.1
    for row, expected in pairs:
        name = f"{row['text']}, {row['bytes']} bytes, {row['layers']} x {row['embd']}, {row['steps']} steps"
        parts.append(
            f'<circle cx="{x(expected):.1f}" cy="{y(float(row["loss"])):.1f}" r="4" fill="{colors[row["text"]]}">'
            f"<title>{name}: {expected:.3f} expected, {row['loss']} measured</title></circle>"
        )
    parts.append(f'<text x="{size / 2}" y="{size - 10}" text-anchor="middle">expected loss, nats per token</text>')
    parts.append(
        f'<text x="14" y="{size / 2}" text-anchor="middle" transform="rotate(-90 14 {size / 2})">measured loss</text>'
    )
    for index, (text, color) in enumerate(colors.items()):
        parts.append(f'<circle cx="{margin + 12}" cy="{margin + 18 * index}" r="4" fill="{color}"/>')
        parts.append(f'<text x="{margin + 22}" y="{margin + 4 + 18 * index}">{text}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main():
    with (ROOT / "sweeps" / "law.csv").open() as file:
        rows = list(csv.DictReader(file))
    fitted = minimize(lambda point: objective(point, rows), [math.log(start) for start in START])
    # What the program has are the rounded ones.
    constants = [float(f"{math.exp(x):.4g}") for x in fitted]
    pairs = list(predictions(constants, rows))
    for name, constant in zip(NAMES, constants):
        print(name, constant)
    print("DEVIATION", f"{deviation(pairs):.3g}")
    if "--figure" in sys.argv:
        Path(sys.argv[sys.argv.index("--figure") + 1]).write_text(figure(pairs))
    if "--errors" in sys.argv:
        for row, expected in pairs:
            print(f"{float(row['loss']) - expected:+.3f}", *row.values())


main()
