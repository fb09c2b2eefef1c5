"""Opens low-rank adapters that `mlx-gpt train --lora-rank` saved in `peft`, on top of the model that they belong to.

    pip install torch transformers mlx-lm peft  # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/adapters.py ADAPTER_FOLDER TEXT_FILE [--mlx-gpt target/debug/mlx-gpt]

The loss on the text must be within 1e-5 of the one here, and another one than without the adapters.
"""

import argparse
import json
from pathlib import Path

import peft
from compare import Problem, check_close, check_ids, main, mlx_gpt_loss, transformers, transformers_loss, transformers_model

TOLERANCE = 1e-5


def check(arguments):
    text = arguments.text.read_bytes().decode("utf-8")
    base = json.loads((arguments.folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.folder)
    ids = check_ids("adapters", arguments.mlx_gpt, arguments.folder, tokenizer, arguments.text, text)
    model = transformers_model(base)
    without = transformers_loss(model, ids)
    adapted = peft.PeftModel.from_pretrained(model, arguments.folder).eval()
    ours, theirs = mlx_gpt_loss(arguments.mlx_gpt, arguments.folder, arguments.text, ids), transformers_loss(adapted, ids)
    print(
        f"  peft {peft.__version__}: loss over {len(ids) - 1:,} tokens {theirs:.7f}, here {ours:.7f}, "
        f"off by {abs(ours - theirs):.1e}; {without:.7f} without adapters"
    )
    check_close("loss in peft", ours, theirs, TOLERANCE)
    if abs(without - theirs) < 100 * TOLERANCE:
        raise Problem("the adapters change nothing")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Opens low-rank adapters in peft.")
    parser.add_argument("folder", metavar="ADAPTER_FOLDER", type=Path)
    parser.add_argument("text", metavar="TEXT_FILE", type=Path)
    parser.add_argument("--mlx-gpt", type=Path, default=Path("target/debug/mlx-gpt"), help="default: %(default)s")
    main(check, parser.parse_args())
