"""Generates tests/fixtures/chat.json: what chat templates of transformers make of conversations.

    pip install transformers
    python scripts/chat_fixtures.py               # or: python scripts/chat_fixtures.py OTHER_FILE

tokenizers.NAME     a tokenizer.json: of characters, and of bytes with a few merges; both with special tokens
templates.NAME      Jinja: this program's own, which is read from its source, and forms that other models have (DialoGPT's,
                    ChatML with a loop's variables, one with methods of Python's strings and a namespace)
cases               for a tokenizer, a template and messages: the rendered text, with and without the beginning of an
                    answer, and the ids of apply_chat_template; or that the template refuses the messages
"""

import json
import re
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, decoders, trainers, Regex
from transformers import AutoTokenizer, PreTrainedTokenizerFast

REPOSITORY = Path(__file__).resolve().parent.parent
SPECIALS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>", "<|im_start|>", "<|im_end|>", "</s>"]

CHATML = """{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>' }}
    {{- '\\n' if not loop.last or add_generation_prompt }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
METHODS = """{% set state = namespace(system='') %}
{% if messages[0]['role'] == 'system' %}
  {% set state.system = messages[0]['content'].strip().upper() %}
  {% set messages = messages[1:] %}
{% endif %}
{% for message in messages %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('roles must alternate') }}
  {% endif %}
  {% if message['role'] == 'user' %}
[{{ state.system if loop.first }}{{ message['content'].replace('  ', ' ') }}]
  {% else %}
{{ message['content'].split('|')[-1] }}{{ eos_token }}
  {% endif %}
{% endfor %}
"""
DIALOGPT = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"


def own_template():
    source = (REPOSITORY / "src/tokenizer/chat/template.rs").read_text()
    return re.search(r'const OWN: &str = "(.*)";', source).group(1)


CONVERSATIONS = [
    [("user", "Hi")],
    [("user", " Who are you?  "), ("assistant", "Nobody.")],
    [("system", " Be  brief. "), ("user", "1+1?"), ("assistant", "2"), ("user", "And  2+2?\n")],
    [("user", "a\nb"), ("assistant", "x|y"), ("user", "ça va? é"), ("assistant", "")],
    [("assistant", "Hello."), ("user", "Hi"), ("user", "Hi")],
    [("system", "Only this.")],
]


def character_tokenizer():
    texts = "".join(content for said in CONVERSATIONS for _, content in said) + CHATML + "BEIRF[]"
    vocabulary = {character: index for index, character in enumerate(sorted(set(texts)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def byte_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([content for said in CONVERSATIONS for _, content in said] * 9, trainer)
    return tokenizer


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "tests/fixtures/chat.json"
    templates = {"own": own_template(), "dialogpt": DIALOGPT, "chatml": CHATML, "methods": METHODS}
    tokenizers = {"characters": character_tokenizer(), "bytes": byte_tokenizer()}
    cases = []
    for name, tokenizer in tokenizers.items():
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
        with tempfile.TemporaryDirectory() as folder:
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
            loaded = AutoTokenizer.from_pretrained(folder)
        for template, source in templates.items():
            loaded.chat_template = source
            for said in CONVERSATIONS:
                messages = [{"role": role, "content": content} for role, content in said]
                case = {"tokenizer": name, "template": template, "messages": messages}
                try:
                    for prompt in (False, True):
                        options = dict(add_generation_prompt=prompt)
                        case["prompt" if prompt else "text"] = loaded.apply_chat_template(messages, tokenize=False, **options)
                        ids = loaded.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
                        case["prompt_ids" if prompt else "ids"] = ids
                except Exception as error:
                    case = {**{key: case[key] for key in ("tokenizer", "template", "messages")}, "refused": str(error)}
                cases.append(case)
    json_of = {name: json.loads(tokenizer.to_str()) for name, tokenizer in tokenizers.items()}
    fixture = {"templates": templates, "tokenizers": json_of, "cases": cases}
    out.write_text(json.dumps(fixture, ensure_ascii=False, separators=(",", ":")) + "\n")
    refused = sum("refused" in case for case in cases)
    print(f"{out}: {len(cases)} cases, {refused} refused")


if __name__ == "__main__":
    main()
