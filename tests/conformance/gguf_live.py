#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ggml's block types through `convert --gguf --dtype float32` and through PyPI's `gguf` (dequantize, in numpy): the same bits,
whatever the blocks hold.

    gguf_live.py [--seed SEED] [--rounds N]

Scales are any finite float16, subnormal and negative ones among them. A difference prints its seed. Without the package the
run is skipped (status 77). The program is $WHISPERENGINE, else the one below $WE_BUILD_DIR."""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize
except ImportError as e:
    print(f"skipped: {e}; python3 -m pip install gguf")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import ggufs  # noqa: E402

PROGRAM = os.environ.get("WHISPERENGINE") or os.path.join(
    os.environ.get("WE_BUILD_DIR", os.path.join(ROOT, "build", "release")), "whisperengine")


def wild_blocks(kind, n, rng):
    raw = bytearray(rng.randbytes(n * ggufs.TYPES[kind][2]))
    for b in range(n):
        for at in ggufs.SCALES[kind]:
            half = rng.randrange(0x7c00) | rng.randrange(2) << 15
            struct.pack_into("<H", raw, b * ggufs.TYPES[kind][2] + at, half)
        if kind == "MXFP4":
            raw[b * 17] = rng.randrange(254)  # beyond it ggml's scale is infinite
    return bytes(raw)


def read_f32(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        content = f.read()
    length, = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    return {k: np.frombuffer(content, "<f4", offset=8 + length + t["data_offsets"][0], count=int(np.prod(t["shape"])))
            for k, t in header.items() if k != "__metadata__"}


def unpermuted(values, heads):
    """Of each head, the halves row by row back into halves."""
    rows, cols = values.shape
    return values.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def compare(kind, seed):
    rng = random.Random(seed)
    model = ggufs.random_model(kind, seed, hidden=512, ff=768, layers=1)
    blocks = ggufs.TYPES[kind]
    tensors = [(n, d, t, wild_blocks(kind, len(b) // blocks[2], rng) if t == blocks[0] else b)
               for n, d, t, b in model.tensors]
    model.tensors = tensors
    with tempfile.TemporaryDirectory() as folder:
        path, target = os.path.join(folder, "m.gguf"), os.path.join(folder, "out")
        model.save(path)
        subprocess.run([PROGRAM, "convert", "--gguf", path, "--mlx-path", target, "--dtype", "float32"], check=True,
                       stderr=subprocess.DEVNULL)
        got = read_f32(target)
    names = {v: k for k, v in {**ggufs.NAMES, **{f"model.layers.0.{k}": f"blk.0.{v}" for k, v in ggufs.LAYER_NAMES.items()
                                                if k != "mlp.gate_up_proj"}}.items()}
    worst = 0
    for name, dims, number, data in tensors:
        if number != blocks[0]:
            continue
        raw = np.frombuffer(data, np.uint8).reshape(dims[1], -1)
        want = dequantize(raw, GGMLQuantizationType[kind]).astype(np.float32).reshape(dims[1], dims[0])
        for leaf, heads in (("attn_q", 4), ("attn_k", 2)):
            if leaf + ".weight" in name:
                want = unpermuted(want, heads)
        differ = want.ravel().view(np.uint32) != got[names[name[:-len(".weight")]] + ".weight"].view(np.uint32)
        worst += int(differ.sum())
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    failed = 0
    for kind in ggufs.SCALES:
        for seed in range(args.seed, args.seed + args.rounds):
            n = compare(kind, seed)
            failed += n > 0
            if n:
                print(f"{kind}: {n} values differ; --seed {seed} --rounds 1 shows it again")
    print(f"ggml's blocks: {len(ggufs.SCALES)} types, {args.rounds} models each: "
          f"{'all bits agree' if not failed else f'{failed} models differ'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
