"""Checks a file written by `mlx-gpt export --format gguf` against its checkpoint.

    pip install gguf safetensors            # and, to run the file too: pip install llama-cpp-python
    python scripts/interop/gguf_file.py CHECKPOINT_FOLDER FILE [--mlx-gpt target/debug/mlx-gpt]

With the `gguf` package, which llama.cpp's own converter uses:

  - the tensors have the names that the package maps the checkpoint's to, and their shapes;
  - each is byte-identical to the package's encoding of the checkpoint's numbers in the tensor's format;
  - the metadata matches config.json, and the vocabulary and merges match tokenizer.json.

With `llama_cpp`, if installed: llama.cpp loads the file, encodes a text to the ids of `mlx-gpt tokenizer encode`, and has the
same most likely tokens as `mlx-gpt generate --temperature 0`, with log-probabilities within the tolerance of the file's format.

Prints figures; a mismatch is printed, and the exit status is 1.
"""

import json
from collections import Counter

import gguf
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType, TokenType
from program import Problem, arguments, main, mlx_gpt_json
from safetensors.numpy import load_file

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

FILE_TYPES = {
    LlamaFileType.ALL_F32: GGMLQuantizationType.F32,
    LlamaFileType.MOSTLY_F16: GGMLQuantizationType.F16,
    LlamaFileType.MOSTLY_BF16: GGMLQuantizationType.BF16,
    LlamaFileType.MOSTLY_Q8_0: GGMLQuantizationType.Q8_0,
}
CONV1D = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")  # [in, out] in GPT-2, [out, in] in ggml

# Tolerances of log-probabilities against mlx-gpt, which computes with the checkpoint's float32 weights. llama.cpp's CPU
# backend looks up GELU in a float16 table, whatever the format; it also converts activations to the format of the
# weight that they are multiplied with. Seen: 2e-5, 1e-4, 9e-4 and 2e-3 for a small trained model, 3e-3, 6e-3, 4e-2 and 3e-1 at most for
# random models of large weights, and 4e-6 for one of them in float32 without its MLPs.
TOLERANCES = {
    GGMLQuantizationType.F32: 0.005,
    GGMLQuantizationType.F16: 0.02,
    GGMLQuantizationType.BF16: 0.1,
    GGMLQuantizationType.Q8_0: 0.5,
}
TEXT = "What's this?  The 12345 kings'll say: naïve\n\n  and\tqueens — 😀 字, don't they?!\r\n \n Yes. \n  "
PROMPT = "First"
MOST_TOKENS = 100


def same(what, found, expected):
    if found != expected:
        raise Problem(f"{what} is {found!r}, not {expected!r}")


def check_tensors(reader, folder, config, kind):
    weights = load_file(folder / "model.safetensors")
    name_map = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    expected = {name_map.get_name(name, try_suffixes=(".weight", ".bias")): name for name in weights}
    found = {tensor.name: tensor for tensor in reader.tensors}
    same("the set of tensors", sorted(found), sorted(map(str, expected)))
    for name, tensor in found.items():
        numbers = weights[expected[name]]
        if expected[name].endswith(CONV1D):
            numbers = np.ascontiguousarray(numbers.T)
        exact = numbers.ndim == 1 or name == "position_embd.weight"
        same(f"the format of {name}", tensor.tensor_type, GGMLQuantizationType.F32 if exact else kind)
        same(f"the shape of {name}", tensor.shape.tolist(), list(reversed(numbers.shape)))
        if tensor.data.tobytes() != gguf.quants.quantize(numbers, tensor.tensor_type).tobytes():
            off = np.abs(gguf.quants.dequantize(tensor.data, tensor.tensor_type) - numbers).max()
            raise Problem(f"{name} is not what gguf makes of the checkpoint's numbers; they differ by up to {off:.1e}")
    return Counter(tensor.tensor_type.name for tensor in reader.tensors)


def check_metadata(metadata, config):
    for key, value in {
        "general.architecture": "gpt2",
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "gpt2.block_count": config["n_layer"],
        "gpt2.context_length": config["n_positions"],
        "gpt2.embedding_length": config["n_embd"],
        "gpt2.feed_forward_length": 4 * config["n_embd"],
        "gpt2.attention.head_count": config["n_head"],
        "gpt2.attention.layer_norm_epsilon": float(np.float32(config["layer_norm_epsilon"])),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.add_bos_token": False,
    }.items():
        same(key, metadata.get(key), value)
    if config["eos_token_id"] is not None:
        same("tokenizer.ggml.bos_token_id", metadata["tokenizer.ggml.bos_token_id"], config["bos_token_id"])
        ends = config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]]
        for kind, end in zip(("eos", "eot", "eom"), ends):
            same(f"tokenizer.ggml.{kind}_token_id", metadata[f"tokenizer.ggml.{kind}_token_id"], end)


def check_tokenizer(metadata, folder, config):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    ordinary = {id: token for token, id in tokenizer["model"]["vocab"].items() if id not in special}
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    same("the number of tokens", (len(tokens), len(types)), (config["vocab_size"],) * 2)
    if len(set(tokens)) != len(tokens):
        raise Problem("two ids have the same token, which llama.cpp does not load")
    for id, (token, kind) in enumerate(zip(tokens, types)):
        if id in special:
            same(f"token {id}", (token, kind), (special[id], TokenType.CONTROL))
        elif id in ordinary:
            same(f"token {id}", (token, kind), (ordinary[id], TokenType.NORMAL))
        else:
            same(f"the type of id {id}, which no token has,", kind, TokenType.UNUSED)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    same("the list of merges", metadata["tokenizer.ggml.merges"], merges)
    pre_tokenizer = "gpt-2" if tokenizer["pre_tokenizer"]["type"] == "ByteLevel" else "dbrx"  # dbrx: GPT-4's pattern
    same("tokenizer.ggml.pre", metadata["tokenizer.ggml.pre"], pre_tokenizer)
    return f"{len(ordinary)} tokens, {len(special)} special, {len(merges)} merges"


def check_llama_cpp(file, folder, config, kind, program):
    f32 = llama_cpp.GGML_TYPE_F32  # keys and values: otherwise float16
    model = llama_cpp.Llama(
        str(file), n_ctx=config["n_positions"], logits_all=True, type_k=f32, type_v=f32, verbose=False
    )
    for text in (TEXT, PROMPT):
        ids = mlx_gpt_json(program, "tokenizer", "encode", "--tokenizer", folder, text)["ids"]
        same(f"llama.cpp's ids of {text!r}", model.tokenize(text.encode(), add_bos=False), ids)

    # Each token of the continuation, given those before it.
    new = min(config["n_positions"] - len(ids), MOST_TOKENS)
    options = ["--checkpoint", folder, "--prompt", PROMPT, "--max-new-tokens", str(new), "--temperature", "0", "--ignore-eos"]
    sample = mlx_gpt_json(program, "generate", "--device", "cpu", *options)["samples"][0]
    model.eval(ids + sample["ids"][:-1])
    logits = np.array(model.scores[len(ids) - 1 : len(ids) - 1 + new], dtype=np.float64)
    logits -= logits.max(1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    chosen = logprobs[np.arange(new), sample["ids"]]
    tolerance = TOLERANCES[kind]
    off = np.abs(chosen - sample["logprobs"]).max()
    if not off <= tolerance:  # written so that NaN fails
        raise Problem(f"llama.cpp's log-probabilities differ by up to {off:.1e}, more than {tolerance}")
    behind = logprobs.max(1) - chosen
    if not behind.max() <= 2 * tolerance:
        raise Problem(f"llama.cpp's most likely tokens are others than mlx-gpt's, by up to {behind.max():.1e}")
    others = int((behind > 0).sum())
    return f"{len(ids) + new} ids and {new} greedy tokens, {others} near ties; log-probabilities off by {off:.1e}"


def check(options):
    folder, file = options.checkpoint_folder, options.file
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        reader = gguf.GGUFReader(file)
    except ValueError as error:
        raise Problem(f"the gguf package cannot read it: {error}") from error
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    kind = FILE_TYPES[LlamaFileType(metadata["general.file_type"])]
    formats = check_tensors(reader, folder, config, kind)
    check_metadata(metadata, config)
    vocabulary = check_tokenizer(metadata, folder, config)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
    print(f"gguf: {counts} tensors, byte for byte what the package makes of the weights; {vocabulary}")
    if llama_cpp is None:
        print("llama.cpp: llama-cpp-python is not installed, so that the file was read but not run")
    else:
        print(f"llama.cpp: {check_llama_cpp(file, folder, config, kind, options.mlx_gpt)}")


if __name__ == "__main__":
    parser = arguments("Checks a GGUF file against the checkpoint it was made from.", "CHECKPOINT_FOLDER", "FILE")
    main(check, parser.parse_args())
