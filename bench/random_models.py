#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Llama-shaped models of random weights, as an MLX folder and as a GGUF file of the same bits per weight.

    bench/random_models.py --shape NAME [--bits 4|8|16] [--form mlx|gguf] [--tokenizer FOLDER] FOLDER

Speed depends on shapes and on how weights are stored, not on their values, so nothing is downloaded: the codes are a few megabytes
of random bytes again and again, scales are constant, norms are 1. 4 bit: groups of 64 with a scale and a bias in bfloat16 (MLX),
Q4_0 (GGUF), both 4.5 bits a weight; 8 bit: the same groups and Q8_0, both 8.5; 16: plain bfloat16, MLX alone. The vocabulary of the
MLX folder is made up and has no merges; --tokenizer copies a real one (its vocabulary must be the shape's).

Layouts: https://huggingface.co/docs/safetensors, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
import argparse
import contextlib
import json
import os
import random
import shutil
import struct
import sys

SHAPES = {  # hidden, layers, heads, kv heads, head_dim, ffn, vocab, tied
    "tiny": (256, 4, 8, 4, 32, 768, 4096, True),
    "qwen3-0.6b": (1024, 28, 16, 8, 128, 3072, 151936, True),
    "llama-3.2-1b": (2048, 16, 32, 8, 64, 8192, 128256, True),
    "llama-3.2-3b": (3072, 28, 24, 8, 128, 8192, 128256, True),
    "llama-3.1-8b": (4096, 32, 32, 8, 128, 14336, 128256, False),
}
GROUP = 64
GGUF_TYPES = {4: ("Q4_0", 2, 18, 2), 8: ("Q8_0", 8, 34, 7)}  # name, ggml's type, bytes of a block of 32, general.file_type
EPS, ROPE_THETA, CONTEXT = 1e-5, 500000.0, 131072
NOISE = random.Random(1).randbytes(1 << 22)
PLAIN = b"".join(bytes((b, 0x3c | b & 0x80)) for b in NOISE[:1 << 13])  # bfloat16, magnitudes of 0.008 to 0.03


def matrices(shape):
    """(MLX's name, GGUF's name, rows, columns) of every matrix."""
    hidden, layers, heads, kv_heads, head_dim, ffn, vocab, tied = SHAPES[shape]
    yield "model.embed_tokens", "token_embd", vocab, hidden
    for i in range(layers):
        mlx, gguf = f"model.layers.{i}.", f"blk.{i}."
        yield mlx + "self_attn.q_proj", gguf + "attn_q", heads * head_dim, hidden
        yield mlx + "self_attn.k_proj", gguf + "attn_k", kv_heads * head_dim, hidden
        yield mlx + "self_attn.v_proj", gguf + "attn_v", kv_heads * head_dim, hidden
        yield mlx + "self_attn.o_proj", gguf + "attn_output", hidden, heads * head_dim
        yield mlx + "mlp.gate_proj", gguf + "ffn_gate", ffn, hidden
        yield mlx + "mlp.up_proj", gguf + "ffn_up", ffn, hidden
        yield mlx + "mlp.down_proj", gguf + "ffn_down", hidden, ffn
    if not tied:
        yield "lm_head", "output", vocab, hidden


def norms(shape):
    hidden, layers = SHAPES[shape][:2]
    for i in range(layers):
        yield f"model.layers.{i}.input_layernorm", f"blk.{i}.attn_norm", hidden
        yield f"model.layers.{i}.post_attention_layernorm", f"blk.{i}.ffn_norm", hidden
    yield "model.norm", "output_norm", hidden


def bf16(value):
    return struct.pack("<f", value)[2:]


@contextlib.contextmanager
def whole_file(path):
    """A file that is there when all of it is written, and not at all otherwise."""
    try:
        with open(path + ".part", "wb") as f:
            yield f
        os.rename(f.name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path + ".part")
        raise


def write_noise(f, n):
    for at in range(0, n, len(NOISE)):
        f.write(NOISE[:min(len(NOISE), n - at)])


def write_same(f, pattern, n):
    """n bytes of a pattern whose length divides n."""
    piece = pattern * max(1, (1 << 20) // len(pattern))
    for at in range(0, n, len(piece)):
        f.write(piece[:min(len(piece), n - at)])


# ---- MLX ----

def vocabulary(size):
    """A byte-level vocabulary with made-up words up to the wanted size."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    words = [chr(c) for c in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    return words + [f"<word{i}>" for i in range(len(words), size)]


def write_tokenizer(folder, vocab):
    words = vocabulary(vocab)
    special = [{"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i in (vocab - 2, vocab - 1)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                           "vocab": {word: i for i, word in enumerate(words)}, "merges": []}}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": words[-2], "eos_token": words[-1],
                "chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"}
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump(tokenizer, f)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(settings, f)


def write_mlx(shape, bits, folder, tokenizer=None):
    hidden, layers, heads, kv_heads, head_dim, ffn, vocab, tied = SHAPES[shape]
    os.makedirs(folder, exist_ok=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "num_hidden_layers": layers,
              "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": ffn,
              "vocab_size": vocab, "rms_norm_eps": EPS, "rope_theta": ROPE_THETA, "max_position_embeddings": CONTEXT,
              "tie_word_embeddings": tied, "attention_bias": False, "mlp_bias": False, "hidden_act": "silu",
              "torch_dtype": "bfloat16", "bos_token_id": vocab - 2, "eos_token_id": vocab - 1}
    if bits < 16:
        config["quantization"] = {"group_size": GROUP, "bits": bits}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    if tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(tokenizer, name), folder)
    else:
        write_tokenizer(folder, vocab)

    entries, size = {}, 0

    def add(name, dtype, dims, n_bytes):
        nonlocal size
        entries[name] = {"dtype": dtype, "shape": dims, "data_offsets": [size, size + n_bytes]}
        size += n_bytes

    for name, _, rows, cols in matrices(shape):
        if bits == 16:
            add(name + ".weight", "BF16", [rows, cols], rows * cols * 2)
            continue
        add(name + ".weight", "U32", [rows, cols * bits // 32], rows * cols * bits // 8)
        add(name + ".scales", "BF16", [rows, cols // GROUP], rows * cols // GROUP * 2)
        add(name + ".biases", "BF16", [rows, cols // GROUP], rows * cols // GROUP * 2)
    for name, _, n in norms(shape):
        add(name + ".weight", "BF16", [n], 2 * n)
    header = json.dumps({"__metadata__": {"format": "mlx"}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    with whole_file(os.path.join(folder, "model.safetensors")) as f:
        f.write(struct.pack("<Q", len(header)) + header)
        for name, entry in entries.items():
            n = entry["data_offsets"][1] - entry["data_offsets"][0]
            if entry["dtype"] == "U32":
                write_noise(f, n)
            elif len(entry["shape"]) == 2 and bits == 16:
                write_same(f, PLAIN, n)
            elif name.endswith(".scales"):
                write_same(f, bf16(0.02 / 2 ** (bits - 1)), n)
            else:
                write_same(f, bf16(-0.02 if name.endswith(".biases") else 1.0), n)


# ---- GGUF ----

def gguf_text(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value):
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value)


def write_gguf(shape, bits, path):
    hidden, layers, heads, kv_heads, head_dim, ffn, vocab, tied = SHAPES[shape]
    _, kind, block, file_type = GGUF_TYPES[bits]
    metadata = {"general.architecture": "llama", "general.name": shape, "general.file_type": file_type,
                "llama.context_length": CONTEXT, "llama.embedding_length": hidden, "llama.block_count": layers,
                "llama.feed_forward_length": ffn, "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv_heads,
                "llama.attention.key_length": head_dim, "llama.attention.value_length": head_dim,
                "llama.rope.dimension_count": head_dim, "llama.attention.layer_norm_rms_epsilon": EPS,
                "llama.rope.freq_base": ROPE_THETA, "llama.vocab_size": vocab, "tokenizer.ggml.model": "none"}
    tensors = [(gguf + ".weight", [cols, rows], kind, rows * cols // 32 * block) for _, gguf, rows, cols in matrices(shape)]
    tensors += [(gguf + ".weight", [n], 0, 4 * n) for _, gguf, n in norms(shape)]
    head, offset = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)), 0
    for key, value in metadata.items():
        head += gguf_text(key) + gguf_value(value)
    for name, dims, dtype, n_bytes in tensors:
        head += gguf_text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, dtype, offset)
        offset += n_bytes + -n_bytes % 32
    scale, codes = struct.pack("<e", 0.02 / 2 ** (bits - 1)), block - 2  # a block begins with its scale
    blocks = b"".join(scale + NOISE[at:at + codes] for at in range(0, len(NOISE) - codes, codes))
    with whole_file(path) as f:
        f.write(head + bytes(-len(head) % 32))
        for _, _, dtype, n_bytes in tensors:
            if dtype:
                write_same(f, blocks, n_bytes)
            else:
                write_same(f, struct.pack("<f", 1.0), n_bytes)
            f.write(bytes(-n_bytes % 32))


def make(form, shape, bits, folder, tokenizer=None):
    """The model's path, made where it is not there yet."""
    if form == "mlx":
        path = os.path.join(folder, f"{shape}-{bits}bit")
        if not os.path.exists(os.path.join(path, "model.safetensors")):
            write_mlx(shape, bits, path, tokenizer)
    else:
        path = os.path.join(folder, f"{shape}-{GGUF_TYPES[bits][0]}.gguf")
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            write_gguf(shape, bits, path)
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shape", choices=SHAPES, required=True)
    p.add_argument("--bits", type=int, choices=(*GGUF_TYPES, 16), default=4)
    p.add_argument("--form", choices=("mlx", "gguf"), action="append")
    p.add_argument("--tokenizer")
    p.add_argument("folder")
    o = p.parse_args()
    if o.bits == 16 and o.form != ["mlx"]:
        p.error("--bits 16 needs --form mlx: there is no such GGUF file here")
    for form in o.form or ("mlx", "gguf"):
        print(make(form, o.shape, o.bits, o.folder, o.tokenizer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
