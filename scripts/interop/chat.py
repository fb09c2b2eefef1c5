"""Checks that a chat model talks as it does in `transformers`.

    pip install torch transformers
    python scripts/interop/chat.py CHECKPOINT_FOLDER CONVERSATIONS [--mlx-gpt target/debug/mlx-gpt] [--count 100]

For the first conversations of a JSONL file, `mlx-gpt chat --temperature 0` takes all turns of the user, and so does a greedy
model of transformers, whose prompts are those of the folder's chat template; both answer to their own answers. The answers
must be the same, but for ties: two logits within 1e-4 of each other, which are counted and end the comparison of that
conversation.
"""

import json
import subprocess

import torch
import transformers
from program import Problem, arguments, main

TIE = 1e-4


def questions(path, count):
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    for line in lines:
        turns = [message["content"] for message in json.loads(line)["messages"] if message["role"] == "user"]
        if any("\n" in turn or turn.startswith("/") or not turn.strip() for turn in turns):
            raise Problem(f"{path}: a turn of the user is no line")
        yield turns


def answers(program, folder, conversations):
    """The answers of mlx-gpt, a line for each turn, of one process for all conversations."""
    said = "".join("".join(f"{turn}\n" for turn in turns) + "/reset\n" for turns in conversations)
    command = [str(program), "chat", "--checkpoint", str(folder), "--temperature", "0"]
    run = subprocess.run(command, input=said, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise Problem(f"{' '.join(command)} failed with status {run.returncode}")
    lines = iter(run.stdout.splitlines())
    return [[next(lines, None) for _ in turns] for turns in conversations]


def greedy(model, tokenizer, messages):
    """The most likely answer, and whether some of its tokens were nearly as likely as another."""
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    end, context = model.config.eos_token_id, model.config.n_positions
    answer, tie = [], False
    while len(ids) + len(answer) < context:
        logits = model(torch.tensor([ids + answer])).logits[0, -1]
        best, second = logits.topk(2).values.tolist()
        tie |= best - second < TIE
        token = logits.argmax().item()
        if token == end:
            break
        answer.append(token)
    return tokenizer.decode(answer), tie


def check(options):
    conversations = list(questions(options.conversations, options.count))
    ours = answers(options.mlx_gpt, options.checkpoint_folder, conversations)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.checkpoint_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.checkpoint_folder).eval()
    turns, ties = 0, 0
    with torch.no_grad():
        for said, answered in zip(conversations, ours):
            messages = []
            for content, answer in zip(said, answered):
                messages.append({"role": "user", "content": content})
                expected, tie = greedy(model, tokenizer, messages)
                if answer != expected and tie:
                    ties += 1
                    break
                if answer != expected:
                    raise Problem(f"after {messages}: {answer!r} here, {expected!r} in transformers")
                messages.append({"role": "assistant", "content": expected})
                turns += 1
    version = transformers.__version__
    print(f"  transformers {version}: the same {turns} answers in {len(conversations)} conversations, {ties} ended by ties")


if __name__ == "__main__":
    parser = arguments(__doc__, "CHECKPOINT_FOLDER", "CONVERSATIONS")
    parser.add_argument("--count", type=int, default=100, help="conversations (default: %(default)s)")
    main(check, parser.parse_args())
