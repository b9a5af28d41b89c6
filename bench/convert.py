#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Converting a model of a billion weights to 4 bit, by us and by mlx_lm.convert, in turns on the same machine.

    bench/convert.py [--shape 1b|tiny] [--runs N] [--only ours|theirs] [--program BUILD/whisperengine] [--dir FOLDER] [-- FLAGS]

Makes a bfloat16 model of random weights in the shape of Llama 3.2 1B (2.5 GB) below FOLDER (default: a temporary one),
converts it N times with each program (default 3), prints wall time and peak memory of each run and the ratio of the best
ones, and removes what it made. FLAGS (default: -q) go to both. Needs PyPI's mlx-lm and numpy. Both read the source from
the system's cache: an unmeasured read comes first. We sync the files to disk before they get their name, mlx-lm does not:
--only and a look at `seconds` of --json tell more."""
import argparse
import json
import multiprocessing
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

SHAPES = {  # hidden, layers, heads, kv heads, head_dim, ffn, vocab
    "tiny": (256, 4, 8, 4, 32, 768, 4096),
    "1b": (2048, 16, 32, 8, 64, 8192, 128256),
}
THEIRS = """
import pathlib, sys
import mlx_lm.convert, mlx_lm.utils as utils
class NoTokenizer:
    def save_pretrained(self, folder): pass
def load(path, **_):
    model, config = utils.load_model(pathlib.Path(path), lazy=True)
    return model, NoTokenizer(), config
sys.modules["mlx_lm.convert"].load = load     # the model has no tokenizer; its time is not mlx-lm's either
utils.create_model_card = lambda *_: None
sys.modules["mlx_lm.convert"].main()
"""


def tensors(shape):
    hidden, layers, heads, kv, head_dim, ffn, vocab = shape
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "self_attn.q_proj.weight", (heads * head_dim, hidden)
        yield p + "self_attn.k_proj.weight", (kv * head_dim, hidden)
        yield p + "self_attn.v_proj.weight", (kv * head_dim, hidden)
        yield p + "self_attn.o_proj.weight", (hidden, heads * head_dim)
        yield p + "mlp.gate_proj.weight", (ffn, hidden)
        yield p + "mlp.up_proj.weight", (ffn, hidden)
        yield p + "mlp.down_proj.weight", (hidden, ffn)
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)


def make_source(folder, shape):
    import numpy as np
    hidden, layers, heads, kv, head_dim, ffn, vocab = shape
    os.makedirs(folder)
    config = dict(model_type="llama", hidden_size=hidden, num_hidden_layers=layers, intermediate_size=ffn, head_dim=head_dim,
                  num_attention_heads=heads, num_key_value_heads=kv, vocab_size=vocab, rms_norm_eps=1e-5, rope_theta=5e5,
                  max_position_embeddings=8192, tie_word_embeddings=True, torch_dtype="bfloat16")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    header, at = {}, 0
    for name, size in tensors(shape):
        n = 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    pool = rng.standard_normal(1 << 24, dtype=np.float32) * 0.02  # the time depends on no value
    pool = (pool.view(np.uint32) >> 16).astype(np.uint16)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, size in tensors(shape):
            left = int(np.prod(size))
            while left:
                start = int(rng.integers(0, len(pool) // 2))
                part = pool[start:start + min(left, len(pool) // 2)]
                f.write(part.tobytes())
                left -= len(part)


def timed(command):
    """Seconds, and the most memory that was resident, of one run."""
    start = time.monotonic()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if p.returncode:
        sys.exit(f"{command[0]} failed: {output.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 1e6


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["ours", "theirs"])
    parser.add_argument("--program", default=str(root / "build/release/whisperengine"))
    parser.add_argument("--dir")
    parser.add_argument("flags", nargs="*", default=["-q"])
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="we-bench-", dir=args.dir)
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    commands = {"theirs": [sys.executable, "-c", THEIRS], "ours": [args.program, "convert"]}
    best = {}
    try:
        maker = multiprocessing.Process(target=make_source, args=(source, SHAPES[args.shape]))
        maker.start()  # on its own: a child's most memory counts from what its parent had
        maker.join()
        for run in range(args.runs):
            for name, command in commands.items():
                if args.only in (None, name):
                    seconds, megabytes = timed([*command, "--hf-path", source, "--mlx-path", target, *args.flags])
                    best[name] = min(best.get(name, seconds), seconds)
                    print(f"{name:7} {seconds:7.2f} s  {megabytes:7.0f} MB at most", flush=True)
                    shutil.rmtree(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(best) == 2:
        print(f"ratio   {best['theirs'] / best['ours']:7.1f}")


if __name__ == "__main__":
    main()
