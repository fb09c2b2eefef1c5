"""Checks that `transformers` and `mlx-lm` load a checkpoint folder without conversion.

    pip install torch transformers mlx-lm       # outside macOS also: pip install "mlx[cpu]"
    python scripts/interop/checkpoint.py CHECKPOINT_FOLDER TEXT_FILE [--mlx-gpt target/debug/mlx-gpt] [--tolerance 1e-4]

For each of the two libraries:

  - the folder loads, with no parameter of the library's GPT-2 missing or unexpected;
  - the text is encoded to the token ids of `mlx-gpt tokenizer encode`, and decodes to the same text;
  - the mean loss over the text, with every token but the first predicted exactly once, is within the tolerance of
    `mlx-gpt eval --split all`;
  - greedy text is the same up to the context, at most 100 tokens, except for ties: another token may be chosen if the two
    most likely ones differ by less than 1e-5, which is counted.

`--only mlx-lm` skips `transformers`, for mlx-lm's own layouts. A mismatch is printed, and the exit status is 1.

mlx-lm tests every tokenizer that it loads on the text "a ,b": a vocabulary must have these four characters.
"""

from compare import (
    check_greedy, check_ids, mlx_gpt_loss, mlx_lm, mlx_lm_loss, mlx_lm_model, mlx_lm_next, transformers,
    transformers_loss, transformers_model, transformers_next,
)  # fmt: skip
from program import Problem, arguments, check_close, main


def opened(library, check, *arguments):
    """Calls `check`, turning whatever the library raises into a problem that names the library."""
    try:
        return check(*arguments)
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"{library} cannot use the folder: {error}") from error


def in_transformers(folder):
    model = transformers_model(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, model.config.n_positions, lambda ids: transformers_loss(model, ids), transformers_next(model)


def in_mlx_lm(folder):
    model, tokenizer = mlx_lm_model(folder)
    return tokenizer, model.args.n_positions, lambda ids: mlx_lm_loss(model, ids), mlx_lm_next(model)


LIBRARIES = {
    "transformers": (transformers.__version__, in_transformers),
    "mlx-lm": (mlx_lm.__version__, in_mlx_lm),
}


def check(options):
    text = options.text_file.read_bytes().decode("utf-8")  # not read_text(), which would replace "\r\n" by "\n"
    prompt = options.prompt or text[:8]
    for name, (version, open_folder) in LIBRARIES.items():
        if options.only not in (None, name):
            continue
        tokenizer, context, loss_of, next_logits = opened(name, open_folder, options.checkpoint_folder)
        ids = check_ids(name, options.mlx_gpt, options.checkpoint_folder, tokenizer, options.text_file, text)
        ours = mlx_gpt_loss(options.mlx_gpt, options.checkpoint_folder, options.text_file, ids)
        theirs = opened(name, loss_of, ids)
        print(
            f"  {name} {version}: loss over {len(ids) - 1:,} tokens {theirs:.7f}, here {ours:.7f}, "
            f"off by {abs(theirs - ours):.1e}"
        )
        check_close(f"loss in {name}", ours, theirs, options.tolerance)
        count, ties = check_greedy(name, options.mlx_gpt, options.checkpoint_folder, tokenizer, next_logits, prompt, context)
        print(f"  {name} {version}: {count} greedy tokens alike, {ties} of them ties")


if __name__ == "__main__":
    parser = arguments("Checks a checkpoint folder against transformers and mlx-lm.", "CHECKPOINT_FOLDER", "TEXT_FILE")
    parser.add_argument("--prompt", help="default: the text's first eight characters")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of the loss; default: %(default)s")
    parser.add_argument("--only", choices=LIBRARIES)
    main(check, parser.parse_args())
