"""Generates tests/fixtures/outer.json: the outer step of --sync-every, by torch.optim.SGD.

    pip install torch
    python scripts/outer_fixtures.py

DiLoCo (Douillard et al. 2023) takes the mean difference of all ranks' parameters from those that they began with as the
gradient of SGD with Nesterov's momentum, at a rate of 0.7 and a momentum of 0.9.

start          the parameters before the first outer step
differences    the mean difference of each outer step
parameters     the parameters after each
"""

import json
from pathlib import Path

import torch

SEED, NUMBERS, STEPS = 1337, 6, 5

torch.manual_seed(SEED)
parameter = torch.nn.Parameter(torch.randn(NUMBERS))
optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
fixture = {"start": parameter.tolist(), "differences": [], "parameters": []}
for _ in range(STEPS):
    parameter.grad = 0.1 * torch.randn(NUMBERS)
    fixture["differences"].append(parameter.grad.tolist())
    optimizer.step()
    fixture["parameters"].append(parameter.tolist())
path = Path(__file__).parent.parent / "tests" / "fixtures" / "outer.json"
path.write_text(json.dumps(fixture, indent=1) + "\n")
