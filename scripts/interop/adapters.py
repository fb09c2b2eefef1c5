"""Loads LoRA adapters of `mlx-gpt train --lora-rank` with `peft`, on their base model.

    pip install torch transformers mlx-lm peft  # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/adapters.py ADAPTER_FOLDER TEXT_FILE [--mlx-gpt target/debug/mlx-gpt]

The loss on the text must be within 1e-5 of mlx-gpt's, and differ from the loss without adapters.
"""

import json

import peft
from compare import check_ids, mlx_gpt_loss, transformers, transformers_loss, transformers_model
from program import Problem, arguments, check_close, main

TOLERANCE = 1e-5


def check(options):
    text = options.text_file.read_bytes().decode("utf-8")
    base = json.loads((options.adapter_folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.adapter_folder)
    ids = check_ids("adapters", options.mlx_gpt, options.adapter_folder, tokenizer, options.text_file, text)
    model = transformers_model(base)
    without = transformers_loss(model, ids)
    adapted = peft.PeftModel.from_pretrained(model, options.adapter_folder).eval()
    ours, theirs = mlx_gpt_loss(options.mlx_gpt, options.adapter_folder, options.text_file, ids), transformers_loss(adapted, ids)
    print(
        f"  peft {peft.__version__}: loss over {len(ids) - 1:,} tokens {theirs:.7f}, here {ours:.7f}, "
        f"off by {abs(ours - theirs):.1e}; {without:.7f} without adapters"
    )
    check_close("loss in peft", ours, theirs, TOLERANCE)
    if abs(without - theirs) < 100 * TOLERANCE:
        raise Problem("the adapters change nothing")


if __name__ == "__main__":
    main(check, arguments("Opens low-rank adapters in peft.", "ADAPTER_FOLDER", "TEXT_FILE").parse_args())
