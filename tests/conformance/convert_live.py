#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Made-up models of each architecture, converted by us and by mlx_lm.convert: the same files of weights, names, types,
shapes and bytes, the same configuration and index, and the same logits when mlx-lm loads both folders.

    convert_live.py [--only WORD] [--command CMD ...]

The reference is PyPI's mlx-lm (0.32.2) with its mlx. CMD (default: $WHISPERENGINE convert) takes the flags of
mlx_lm.convert. Without mlx-lm the run is skipped (status 77). PyTorch's own files are compared where torch is installed."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import mlx.core as mx
    import mlx_lm.convert
    import mlx_lm.utils as utils
    from mlx.utils import tree_flatten
except ImportError:
    print("skipped: PyPI's mlx-lm is not installed")
    sys.exit(77)

try:
    import torch
except ImportError:
    torch = None

their = sys.modules["mlx_lm.convert"]
TYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


# ---- The reference, without a tokenizer (these models have none) and without a network ----

class NoTokenizer:
    def save_pretrained(self, folder):
        pass


def load_without_tokenizer(path, **_):
    model, config = utils.load_model(pathlib.Path(path), lazy=True)
    return model, NoTokenizer(), config


their.load = load_without_tokenizer
utils.create_model_card = lambda *_: None


# ---- Models ----

SMALL = dict(hidden_size=128, num_hidden_layers=2, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2,
             head_dim=32, vocab_size=160, rms_norm_eps=1e-5, max_position_embeddings=512, rope_theta=10000.0)
CONFIGS = {
    "llama": dict(SMALL, model_type="llama", tie_word_embeddings=False, architectures=["LlamaForCausalLM"], bos_token_id=1),
    "llama_bias": dict(SMALL, model_type="llama", tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "llama_tied": dict(SMALL, model_type="llama", _name_or_path="somewhere"),
    "llama_deep": dict(SMALL, model_type="llama", tie_word_embeddings=False, num_hidden_layers=17, intermediate_size=128),
    "llama_odd": dict(SMALL, model_type="llama", tie_word_embeddings=False, intermediate_size=100),
    "mistral": dict(SMALL, model_type="mistral", tie_word_embeddings=False, sliding_window=64),
    "qwen2": {k: v for k, v in dict(SMALL, model_type="qwen2", tie_word_embeddings=True).items() if k != "head_dim"},
    "qwen3": dict(SMALL, model_type="qwen3", tie_word_embeddings=False),
    "phi3": {k: v for k, v in dict(SMALL, model_type="phi3", tie_word_embeddings=False, num_hidden_layers=8).items()
             if k != "head_dim"},
    "gemma3_text": dict(SMALL, model_type="gemma3_text", sliding_window=32, sliding_window_pattern=2,
                        query_pre_attn_scalar=32),
}


def make_weights(config, dtype, seed):
    """Values as a model of that configuration has them: normal, with outliers, groups of zeros and constant groups."""
    mx.random.seed(seed)
    model_class, args_class = utils._get_classes(config)
    model = model_class(args_class.from_dict(dict(config)))
    weights = {}
    for name, value in tree_flatten(model.parameters()):
        w = mx.random.normal(value.shape) * (0.1 if value.ndim > 1 else 0.02)
        if value.ndim == 1:
            w = w + (0 if name.endswith("bias") or config["model_type"] == "gemma3_text" else 1)
        elif value.shape[1] >= 128:
            w[0, :64] = 0
            w[1, 64:128] = 0.25
            w[2, 3] = 12.5
            w[3, 32:64] = -w[3, :32].abs()
        weights[name] = w.astype(dtype)
    if config["model_type"] == "gemma3_text":
        weights.pop("lm_head.weight", None)
    return weights


def save(folder, config, weights, n_files=1, extra_files=None):
    os.makedirs(folder)
    names, index = list(weights), {}
    for i in range(n_files):
        file = "model.safetensors" if n_files == 1 else f"model-{i + 1:05d}-of-{n_files:05d}.safetensors"
        part = {name: weights[name] for name in names[i::n_files]}
        mx.save_safetensors(os.path.join(folder, file), part, metadata={"format": "pt"})
        index.update({name: file for name in part})
    if n_files > 1:
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": index}, f)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    for name, content in (extra_files or {}).items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(content)


# ---- Comparing ----

def load_files(folder):
    return {p.name: mx.load(str(p)) for p in sorted(pathlib.Path(folder).glob("model*.safetensors"))}


def load_json(folder, name):
    with open(os.path.join(folder, name)) as f:
        return json.load(f)


def without_null_groups(config):
    """A recipe without --q-group-size makes mlx-lm write "group_size": null for its layers, which it reads as 64; we write 64."""
    for key in ("quantization", "quantization_config"):
        for value in config.get(key, {}).values():
            if isinstance(value, dict) and value.get("group_size", 0) is None:
                value["group_size"] = 64
    return config


def compare(ours, theirs):
    a, b = load_files(ours), load_files(theirs)
    if list(a) != list(b):
        return f"files {list(a)}, expected {list(b)}"
    for file in a:
        if set(a[file]) != set(b[file]):
            return f"{file}: names differ: {sorted(set(a[file]) ^ set(b[file]))[:6]}"
        for name, x in a[file].items():
            y = b[file][name]
            if (x.dtype, x.shape) != (y.dtype, y.shape):
                return f"{name} is {x.dtype} {x.shape}, expected {y.dtype} {y.shape}"
            if not mx.array_equal(x.view(mx.uint8), y.view(mx.uint8)).item():
                return f"{name} has other bytes"
    for name in ("config.json", "model.safetensors.index.json"):
        x, y = load_json(ours, name), without_null_groups(load_json(theirs, name))
        if x != y:
            return f"{name}: {json.dumps(x)[:1500]}, expected {json.dumps(y)[:1500]}"
        if list(x) != list(y):
            return f"{name}: its keys are in another order"
    return None


def logits(folder):
    model, config = utils.load_model(pathlib.Path(folder))
    tokens = mx.array([[(7 * i + 3) % config["vocab_size"] for i in range(24)]])
    out = model(tokens)
    mx.eval(out)
    return out


# ---- Cases ----

def flags_of(kw):
    names = dict(quantize="-q", dequantize="-d")
    out = []
    for key, value in kw.items():
        if value is True:
            out.append(names[key])
        else:
            out += ["--" + key.replace("_", "-"), str(value)]
    return out


class Run:
    def __init__(self, command, only):
        self.command, self.only = command, only
        self.root = tempfile.mkdtemp(prefix="we-convert-")
        self.n, self.failed = 0, 0

    def folder(self, name):
        return os.path.join(self.root, name)

    def check(self, title, source, keep=None, **kw):
        """Convert `source` with both and compare. keep: a name under which the reference's folder stays for another case."""
        if self.only and self.only not in title and keep is None:
            return
        ours, theirs = self.folder("ours"), self.folder("theirs")
        p = subprocess.run([*self.command, "--hf-path", source, "--mlx-path", ours, *flags_of(kw)], capture_output=True)
        told = p.stderr.decode(errors="replace")
        why = None if p.returncode == 0 else f"status {p.returncode}: {told}"
        try:
            with open(os.devnull, "w") as null:
                stdout, sys.stdout = sys.stdout, null
                try:
                    their.convert(source if not source.endswith("-bin") else source[:-4], theirs, **kw)
                finally:
                    sys.stdout = stdout
            if why is None:
                why = compare(ours, theirs)
            if why is None and not mx.array_equal(logits(ours), logits(theirs)).item():
                why = "mlx-lm computes other logits"
        finally:
            shutil.rmtree(ours, ignore_errors=True)
            if keep and os.path.exists(theirs):
                os.rename(theirs, self.folder(keep))
            shutil.rmtree(theirs, ignore_errors=True)
        self.n += 1
        self.failed += why is not None
        if why:
            print(f"FAILED {title} {' '.join(flags_of(kw))}: {why}")


QUANTIZATIONS = [
    dict(quantize=True),
    *[dict(quantize=True, q_bits=bits, q_group_size=size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)],
    *[dict(quantize=True, q_mode=mode) for mode in ("mxfp4", "mxfp8", "nvfp4")],
]
RECIPES = ["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]


def architectures(run):
    for i, (name, config) in enumerate(CONFIGS.items()):
        for dtype in TYPES:
            folder = run.folder(f"{name}-{dtype}")
            save(folder, dict(config, torch_dtype=dtype), make_weights(config, TYPES[dtype], i), n_files=1 + i % 3)
            title = f"{name} {dtype}"
            run.check(title, folder)
            run.check(title, folder, quantize=True)
            run.check(title, folder, quantize=True, q_mode="mxfp4")
            run.check(title, folder, quantize=True, quant_predicate=RECIPES[i % 4])
            for other in TYPES:
                run.check(title, folder, dtype=other)
                run.check(title, folder, quantize=True, dtype=other)


def quantizations(run):
    for dtype in TYPES:
        source = run.folder(f"llama-{dtype}")
        for i, kw in enumerate(QUANTIZATIONS):
            if dtype != "bfloat16" and i % 3:
                continue
            packed = f"packed-{dtype}-{i}"
            run.check(f"packings {dtype}", source, keep=packed, **kw)
            run.check(f"packed copy {dtype}", run.folder(packed))
            run.check(f"unpacking {dtype}", run.folder(packed), dequantize=True)
            other = list(TYPES)[i % 3]
            run.check(f"unpacking {dtype}", run.folder(packed), dequantize=True, dtype=other)
            run.check(f"packed copy {dtype}", run.folder(packed), dtype=other)
        for i, recipe in enumerate(RECIPES):
            packed = f"recipe-{dtype}-{i}"
            deep = run.folder(f"llama_deep-{dtype}")
            run.check(f"recipes {dtype}", deep, keep=packed, quantize=True, quant_predicate=recipe, q_group_size=32)
            run.check(f"recipes {dtype}", deep, quantize=True, quant_predicate=recipe)
            run.check(f"recipes unpacked {dtype}", run.folder(packed), dequantize=True)


def oddities(run):
    base = CONFIGS["llama"]
    weights = make_weights(base, mx.bfloat16, 50)

    def case(title, config, tensors, files=None, n_files=1, **kw):
        folder = run.folder(title.replace(" ", "_"))
        save(folder, config, tensors, n_files, files)
        run.check(title, folder, **kw)
        run.check(title, folder, quantize=True, **kw)

    case("no torch_dtype", base, weights)
    case("an unknown torch_dtype", dict(base, torch_dtype="float64"), weights)
    case("torch_dtype auto", dict(base, torch_dtype="auto", dtype="float16"), weights)
    case("dtype of text_config", dict(base, text_config={"dtype": "float16"}), weights)
    mixed = {k: v.astype([mx.float32, mx.float16, mx.bfloat16][i % 3]) for i, (k, v) in enumerate(weights.items())}
    case("mixed types", base, mixed)
    case("inv_freq is left out", base, dict(weights, **{"model.layers.0.self_attn.rotary_emb.inv_freq": mx.ones((16,))}))
    tied = make_weights(CONFIGS["llama_tied"], mx.float16, 51)
    case("a tied head is left out", CONFIGS["llama_tied"], dict(tied, **{"lm_head.weight": mx.ones((160, 128))}))
    case("gemma's own head", CONFIGS["gemma3_text"],
         dict(make_weights(CONFIGS["gemma3_text"], mx.bfloat16, 52), **{"lm_head.weight": mx.ones((160, 128)).astype(mx.bfloat16)}))
    case("generation_config's end", dict(base, eos_token_id=2), weights, {"generation_config.json": '{"eos_token_id": [2, 7]}'})
    case("generation_config broken", dict(base, eos_token_id=2), weights, {"generation_config.json": "{"})
    case("vision_config is left out", dict(base, vision_config={"a": 1}, nested={"z": [], "a": {}, "é": "ü\u2028"}), weights)
    case("many shards", base, weights, n_files=7)
    # A model that is quantized in part takes -q for the rest, and the configuration names each of those layers.
    part = {}
    for name, w in weights.items():
        if w.ndim == 2 and "mlp" in name:
            path = name[:-len(".weight")]
            part[name], part[path + ".scales"], part[path + ".biases"] = mx.quantize(w, 32, 8)
        else:
            part[name] = w
    q = {"group_size": 32, "bits": 8, "mode": "affine"}
    case("quantized in part", dict(base, quantization=q, quantization_config=q), part)
    case_d = run.folder("quantized_in_part")
    run.check("quantized in part", case_d, dequantize=True)


def pytorch(run):
    if torch is None:
        print("PyTorch's files: torch is not installed, not compared")
        return
    base = CONFIGS["llama"]
    for dtype in TYPES:
        folder = run.folder(f"llama-{dtype}")
        weights = {}
        for file in load_files(folder).values():
            weights.update({k: torch.from_numpy(__import__("numpy").array(v.astype(mx.float32))).to(getattr(torch, dtype))
                            for k, v in file.items()})
        os.makedirs(folder + "-bin")
        shutil.copy(os.path.join(folder, "config.json"), folder + "-bin")
        torch.save(weights, os.path.join(folder + "-bin", "pytorch_model.bin"))
        for kw in (dict(), dict(quantize=True), dict(dtype="float16")):
            run.check(f"pytorch {dtype}", folder + "-bin", **kw)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="cases whose title holds this")
    default = os.environ.get("WHISPERENGINE") or str(pathlib.Path(__file__).parents[2] / "build/release/whisperengine")
    parser.add_argument("--command", nargs="+", default=[default, "convert"])
    args = parser.parse_args()
    run = Run(args.command, args.only)
    try:
        for part in (architectures, quantizations, oddities, pytorch):
            part(run)
    finally:
        shutil.rmtree(run.root, ignore_errors=True)
    print(f"{run.n - run.failed} of {run.n} conversions are mlx-lm's")
    sys.exit(1 if run.failed else 0)


if __name__ == "__main__":
    main()
