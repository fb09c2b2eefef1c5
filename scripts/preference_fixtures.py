"""Generates tests/fixtures/preferences.safetensors: GRPO's and DPO's losses, metrics and gradients, computed by PyTorch with trl's formulas.

    pip install torch transformers safetensors numpy
    python scripts/preference_fixtures.py

The formulas are written out below as trl has them: GRPOTrainer's `_compute_loss` with loss_type "grpo" and its advantages with
scale_rewards, DPOTrainer's `dpo_loss` with loss_type "sigmoid" and its log-probabilities, which are sums over the completion.
The model is `transformers`' GPT-2 with 2 layers, 2 heads, embedding dimension 16, context 10 and 23 tokens; the reference is a
second one, and the policy that sampled differs from both, so that ratios are clipped in either direction.

x, y                 int32 [8, 10]     tokens, and the tokens to predict for them; -100 where there is none
rewards              float32 [8]       of GRPO's answers, in two groups of four, of which the last has equal ones
old, reference       float32 [8, 10]   log-probabilities of y when sampled, and under the reference; 0 where there is none
NAME                 float32           a parameter of the policy, named as in a Hugging Face GPT-2 file
grpo.loss, grpo.kl, grpo.clip_fraction, grpo.advantages
grpo.grad.NAME       float32           gradient of grpo.loss
dpo.loss, dpo.chosen, dpo.rejected, dpo.accuracy, dpo.logps [8], dpo.reference [8]; rows 2i are chosen, 2i + 1 rejected
dpo.grad.NAME        float32           gradient of dpo.loss
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import logsigmoid
from transformers import GPT2Config, GPT2LMHeadModel

SEED = 1337
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY, ROWS, GROUP = 2, 2, 16, 10, 23, 8, 4
IGNORE_INDEX = -100
EPSILON, BETA, DPO_BETA = 0.2, 0.04, 0.1


def new_model():
    config = GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    return GPT2LMHeadModel(config)


def per_token_logps(model, x, y):
    logps = model(x, use_cache=False).logits.log_softmax(-1)
    return torch.gather(logps, 2, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)


def grpo(logps, old, reference, rewards, mask):
    grouped = rewards.view(-1, GROUP)
    mean = grouped.mean(dim=1).repeat_interleave(GROUP)
    std = grouped.std(dim=1).repeat_interleave(GROUP)
    advantages = (rewards - mean) / (std + 1e-4)
    per_token_kl = torch.exp(reference - logps) - (reference - logps) - 1
    coef_1 = torch.exp(logps - old)
    coef_2 = torch.clamp(coef_1, 1 - EPSILON, 1 + EPSILON)
    per_token_loss = -torch.min(coef_1 * advantages.unsqueeze(1), coef_2 * advantages.unsqueeze(1))
    per_token_loss = per_token_loss + BETA * per_token_kl

    def mean_of_answers(per_token):
        return ((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()

    low = (coef_1 < 1 - EPSILON) & (advantages.unsqueeze(1) < 0)
    high = (coef_1 > 1 + EPSILON) & (advantages.unsqueeze(1) > 0)
    return {
        "loss": mean_of_answers(per_token_loss),
        "kl": mean_of_answers(per_token_kl),
        "clip_fraction": mean_of_answers((low | high).float()),
        "advantages": advantages,
    }


def dpo(logps, reference):
    chosen_logps, rejected_logps = logps[0::2], logps[1::2]
    ref_chosen_logps, ref_rejected_logps = reference[0::2], reference[1::2]
    logits = (chosen_logps - rejected_logps) - (ref_chosen_logps - ref_rejected_logps)
    losses = -logsigmoid(DPO_BETA * logits)
    chosen_rewards = DPO_BETA * (chosen_logps - ref_chosen_logps)
    rejected_rewards = DPO_BETA * (rejected_logps - ref_rejected_logps)
    return {
        "loss": losses.mean(),
        "chosen": chosen_rewards.mean(),
        "rejected": rejected_rewards.mean(),
        "accuracy": (chosen_rewards > rejected_rewards).float().mean(),
        "logps": logps,
        "reference": reference,
    }


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    model, sampler, reference_model = new_model(), new_model(), new_model()
    named = {name.removeprefix("transformer."): parameter for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = parameter.ndim == 1 and name.endswith(".weight")
            parameter.copy_(float(is_gain) + 0.2 * torch.randn(parameter.shape, generator=generator))
            for other, distance in [(sampler, 0.1), (reference_model, 0.1)]:
                noise = distance * torch.randn(parameter.shape, generator=generator)
                other.get_parameter(name).copy_(parameter + noise)
    x = torch.randint(VOCABULARY, (ROWS, CONTEXT), generator=generator)
    y = torch.randint(VOCABULARY, (ROWS, CONTEXT), generator=generator)
    # Each row has a prompt, an answer of another length, and padding.
    starts = torch.randint(1, 4, (ROWS, 1), generator=generator)
    ends = starts + torch.randint(1, CONTEXT - 3, (ROWS, 1), generator=generator)
    places = torch.arange(CONTEXT).unsqueeze(0)
    y[(places < starts) | (places >= ends)] = IGNORE_INDEX
    mask = (y != IGNORE_INDEX).float()
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    rewards[2] = 0.5
    with torch.no_grad():
        old = per_token_logps(sampler, x, y) * mask
        reference = per_token_logps(reference_model, x, y) * mask

    arrays = {"x": x.int(), "y": y.int(), "rewards": rewards, "old": old, "reference": reference}
    arrays |= {name: parameter.detach().clone() for name, parameter in named.items()}
    for name, compute in [
        ("grpo", lambda logps: grpo(logps, old, reference, rewards, mask)),
        ("dpo", lambda logps: dpo((logps * mask).sum(-1), reference.sum(-1))),
    ]:
        model.zero_grad()
        results = compute(per_token_logps(model, x, y))
        results["loss"].backward()
        arrays |= {f"{name}.{key}": value.detach().reshape(-1) for key, value in results.items()}
        arrays |= {f"{name}.grad.{key}": parameter.grad.clone() for key, parameter in named.items()}
        print(name, {key: value.tolist() for key, value in results.items()})
    assert arrays["grpo.clip_fraction"].item() > 0.05

    path = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "preferences.safetensors"
    metadata = {"made_by": f"torch {torch.__version__}, transformers {transformers.__version__}, seed {SEED}"}
    save_file(arrays, path, metadata)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
