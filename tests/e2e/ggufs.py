# SPDX-License-Identifier: Apache-2.0
"""A GGUF writer for the tests, and tiny MLX folders written as GGUF, in the names and orders that llama.cpp's converter
gives them. Layout: docs/gguf.md of ggml-org/ggml."""
import json
import os
import random
import re
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
# name: number, elements of a block, bytes of a block
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
         "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
         "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18),
         "IQ4_XS": (23, 256, 136), "MXFP4": (39, 32, 17)}
# where a block's float16 scales lie
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}


def string(s):
    s = s.encode("utf-8") if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack("<" + PACK[kind], value)


class Gguf:
    """`values` and `tensors` are lists, so that a test can break them before `save`."""

    def __init__(self, architecture=None, alignment=32):
        self.alignment = alignment
        self.values = [("general.architecture", STRING, architecture)] if architecture else []
        self.tensors = []  # name, dims (innermost first), type, bytes

    def set(self, key, kind, value):
        self.values = [v for v in self.values if v[0] != key] + [(key, kind, value)]

    def remove(self, key):
        self.values = [v for v in self.values if v[0] != key]

    def add(self, name, shape, kind, data):
        self.tensors.append((name, list(reversed(shape)), TYPES[kind][0], data))

    def header(self):
        out = struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.values))
        for key, kind, value in self.values:
            out += string(key)
            if isinstance(value, (list, tuple)):
                out += struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(scalar(kind, v) for v in value)
            else:
                out += struct.pack("<I", kind) + scalar(kind, value)
        offset = 0
        for name, dims, kind, data in self.tensors:
            out += string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
            out += struct.pack("<IQ", kind, offset)
            offset += len(data) + -len(data) % self.alignment
        return out

    def bytes(self):
        out = self.header()
        for *_, data in self.tensors:
            out += b"\0" * (-len(out) % self.alignment) + data
        return out

    def save(self, path):
        with open(path, "wb") as f:
            f.write(self.bytes())
        return path


# ---- Tiny MLX folders as GGUF ----

def read_safetensors(folder):
    """{name: (shape, [float])} of all files of a folder; floats of any type."""
    out = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as f:
            content = f.read()
        length, = struct.unpack_from("<Q", content)
        for key, t in json.loads(content[8:8 + length]).items():
            if key == "__metadata__":
                continue
            raw = content[8 + length:][slice(*t["data_offsets"])]
            n = len(raw) // (4 if t["dtype"] == "F32" else 2)
            if t["dtype"] == "BF16":
                raw = b"".join(b"\0\0" + raw[2 * i:2 * i + 2] for i in range(n))
            code = "e" if t["dtype"] == "F16" else "f"
            out[key] = (t["shape"], list(struct.unpack(f"<{n}{code}", raw)))
    return out


ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3",
                 "gemma3_text": "gemma3"}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
               "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
               "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
               "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
               "post_attention_layernorm": "ffn_norm"}
GEMMA_NAMES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}


def name_of(mlx, arch):
    stem, leaf = mlx.rsplit(".", 1)
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", stem)
    if not layer:
        return f"{NAMES[stem]}.{leaf}" if stem in NAMES else None
    names = {**LAYER_NAMES, **GEMMA_NAMES} if arch == "gemma3" else LAYER_NAMES
    return f"blk.{layer[1]}.{names[layer[2]]}.{leaf}" if layer[2] in names else None


def permuted(rows, heads):
    """Rows of q or k as llama.cpp wants them: of each head, the halves row by row."""
    dim = len(rows) // heads
    return [rows[h * dim + half * dim // 2 + i] for h in range(heads) for i in range(dim // 2) for half in range(2)]


def settings(g, arch, c):
    def number(key, value, kind=U32):
        if value is not None:
            g.set(f"{arch}.{key}", kind, value)
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    number("context_length", c["max_position_embeddings"])
    number("embedding_length", c["hidden_size"])
    number("block_count", c["num_hidden_layers"])
    number("feed_forward_length", c["intermediate_size"])
    number("attention.head_count", c["num_attention_heads"])
    number("attention.head_count_kv", c["num_key_value_heads"])
    number("attention.layer_norm_rms_epsilon", c["rms_norm_eps"], F32)
    number("rope.freq_base", c["rope_theta"], F32)
    number("rope.dimension_count", int(head_dim * c.get("partial_rotary_factor", 1)))
    if "head_dim" in c:
        number("attention.key_length", head_dim)
        number("attention.value_length", head_dim)
    if arch == "gemma3":
        number("attention.sliding_window", c["sliding_window"])
        number("attention.sliding_window_pattern", c["sliding_window_pattern"])
    scaling = c.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind in ("linear", "yarn"):
        g.set(f"{arch}.rope.scaling.type", STRING, kind)
        number("rope.scaling.factor", scaling["factor"], F32)
        number("rope.scaling.original_context_length", scaling.get("original_max_position_embeddings"))
    if kind == "longrope":
        number("rope.scaling.original_context_length", c["original_max_position_embeddings"])
        for which in ("long", "short"):
            factors = scaling[f"{which}_factor"]
            g.add(f"rope_factors_{which}.weight", [len(factors)], "F32", struct.pack(f"<{len(factors)}f", *factors))


def from_folder(folder, config=None):
    """The weights of an unpacked MLX folder as F32 tensors of a GGUF file."""
    if config is None:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
    arch = ARCHITECTURES[config["model_type"]]
    g = Gguf(arch)
    settings(g, arch, config)
    tied = config.get("tie_word_embeddings", config["model_type"] in ("llama", "gemma3_text"))
    for mlx, (shape, values) in sorted(read_safetensors(folder).items()):
        name = name_of(mlx, arch)
        if not name or (tied and name.startswith("output.")):
            continue
        if arch == "llama" and re.search(r"[qk]_proj", mlx):
            cols = shape[1] if len(shape) > 1 else 1
            rows = [values[i:i + cols] for i in range(0, len(values), cols)]
            heads = config["num_attention_heads" if ".q_proj" in mlx else "num_key_value_heads"]
            values = [v for row in permuted(rows, heads) for v in row]
        if arch == "gemma3" and name.endswith("norm.weight"):
            values = [v + 1 for v in values]
        g.add(name, shape, "F32", struct.pack(f"<{len(values)}f", *values))
    return g


def random_blocks(kind, n, rng, scale=0.01):
    """Blocks whose numbers are random and small enough for a model to stay finite."""
    size = TYPES[kind][2]
    raw = bytearray(rng.randbytes(n * size))
    for b in range(n):
        for at in SCALES[kind]:
            raw[b * size + at:b * size + at + 2] = struct.pack("<e", rng.uniform(-1, 1) * scale)
        if kind == "MXFP4":
            raw[b * size] = rng.randrange(118, 122)
    return bytes(raw)


def random_model(kind, seed=1, hidden=256, ff=256, layers=2, vocab=64):
    """A little Llama whose matrices are random blocks of one type."""
    rng = random.Random(seed)
    g = Gguf("llama")
    settings(g, "llama", {"max_position_embeddings": 128, "hidden_size": hidden, "num_hidden_layers": layers,
                          "intermediate_size": ff, "num_attention_heads": 4, "num_key_value_heads": 2,
                          "rms_norm_eps": 1e-5, "rope_theta": 10000.0})

    def matrix(name, rows, cols):
        n = rows * cols // TYPES[kind][1]
        if kind in SCALES:
            scales = {"Q8_0": 5e-4, "Q2_K": 2e-3, "Q3_K": 5e-4, "Q4_K": 1e-4, "Q5_K": 5e-5, "Q6_K": 2e-5, "IQ4_NL": 5e-4,
                      "IQ4_XS": 2e-5}
            data = random_blocks(kind, n, rng, scales.get(kind, 0.01))
        else:
            data = b"".join({"F32": struct.pack("<f", x), "F16": struct.pack("<e", x),
                             "BF16": struct.pack("<f", x)[2:]}[kind]
                            for x in (rng.gauss(0, 0.05) for _ in range(rows * cols)))
        g.add(name, [rows, cols], kind, data)

    def norm(name):
        g.add(name, [hidden], "F32", struct.pack(f"<{hidden}f", *(1 + rng.randrange(-64, 64) / 128 for _ in range(hidden))))

    matrix("token_embd.weight", vocab, hidden)
    norm("output_norm.weight")
    for i in range(layers):
        for name, rows, cols in (("attn_q", hidden, hidden), ("attn_k", hidden // 2, hidden),
                                 ("attn_v", hidden // 2, hidden), ("attn_output", hidden, hidden),
                                 ("ffn_gate", ff, hidden), ("ffn_up", ff, hidden), ("ffn_down", hidden, ff)):
            matrix(f"blk.{i}.{name}.weight", rows, cols)
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
    return g


# ---- Tokenizers ----

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def tokenizer(g, t, config, pre=None):
    """The metadata of a tokenizer.json: byte-level BPE with the name of its pre-tokenizer, else SentencePiece."""
    vocab, merges = t["model"]["vocab"], [m.split(" ") if isinstance(m, str) else m for m in t["model"]["merges"]]
    added = {a["id"]: a for a in t["added_tokens"]}
    n = 1 + max([*vocab.values(), *added])
    tokens, types = [f"[PAD{i}]" for i in range(n)], [UNUSED] * n
    for text, i in vocab.items():
        tokens[i], types[i] = text, BYTE if not pre and re.fullmatch("<0x[0-9A-F]{2}>", text) else NORMAL
    for i, a in added.items():
        tokens[i], types[i] = a["content"], CONTROL if a["special"] else USER_DEFINED
    g.set("tokenizer.ggml.model", STRING, "gpt2" if pre else "llama")
    g.set("tokenizer.ggml.pre", STRING, pre or "default")
    g.set("tokenizer.ggml.tokens", STRING, tokens)
    g.set("tokenizer.ggml.token_type", I32, types)
    if pre:
        g.set("tokenizer.ggml.merges", STRING, [" ".join(m) for m in merges])
    else:  # a piece's score falls with the place of the first merge that makes it
        scores = {}
        for rank, (a, b) in enumerate(merges):
            scores.setdefault(a + b, -float(rank))
        g.set("tokenizer.ggml.scores", F32, [scores.get(text, -1e6) for text in tokens])
    for role in ("bos", "eos"):
        text = config.get(f"{role}_token")
        if text:
            g.set(f"tokenizer.ggml.{role}_token_id", U32, tokens.index(text))
    if config.get("unk_token"):
        g.set("tokenizer.ggml.unknown_token_id", U32, tokens.index(config["unk_token"]))
    if config.get("chat_template"):
        g.set("tokenizer.chat_template", STRING, config["chat_template"])
    return g
