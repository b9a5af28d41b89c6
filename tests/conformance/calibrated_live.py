#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A folder that `convert --calibrate` made, with bits of its own for each layer, in PyPI's mlx-lm: it loads there, its packed
matrices have the bits that config.json says, and its logits are ours. The model is the built-in one in float32.

    calibrated_live.py [--command PROGRAM]

Without mlx-lm the run is skipped (status 77)."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

try:
    import mlx.core as mx
    import mlx_lm.utils as utils
    import numpy as np
    from mlx.utils import tree_flatten
except ImportError:
    print("skipped: PyPI's mlx-lm is not installed")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENS = 160


def we(command, *args):
    subprocess.run([command, *map(str, args)], check=True, stderr=subprocess.DEVNULL)


def packed(model):
    """How many packed matrices there are of each number of bits."""
    found = {}
    for _, module in tree_flatten(model.leaf_modules(), is_leaf=lambda m: hasattr(m, "parameters")):
        if hasattr(module, "bits"):
            found[module.bits] = found.get(module.bits, 0) + 1
    return found


def check(command, source, folder, text, bits):
    we(command, "convert", "--hf-path", source, "--mlx-path", folder, "-q", "--q-bits", bits, "--dtype", "float32", "--calibrate", text)
    model, config = utils.load_model(folder)
    said = {}
    for value in config["quantization"].values():
        if isinstance(value, dict):
            said[value["bits"]] = said.get(value["bits"], 0) + 1
    if packed(model) != said or len(said) < 2:
        return f"mlx-lm has packed matrices {packed(model)}, config.json names {said}"
    rng = random.Random(bits)
    ids = [rng.randrange(config["vocab_size"]) for _ in range(TOKENS)]
    theirs = np.array(model(mx.array([ids]))[0].astype(mx.float32))
    output = folder / "logits.npy"
    we(command, "logits", "-m", folder, "--precise", "--tokens", ",".join(map(str, ids)), "-o", output)
    ours = np.load(output)
    worst = float(np.abs(ours - theirs).max() / theirs.std())
    print(f"{bits} bits: {dict(sorted(said.items()))} matrices of that many bits; worst difference {worst:.2e} of the logits' deviation")
    return None if worst < 5e-4 else f"the logits differ by {worst:.2e} of their deviation"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default=os.environ.get("WHISPERENGINE", ROOT / "build/release/whisperengine"))
    command = parser.parse_args().command
    mx.set_default_device(mx.cpu)
    failed = 0
    with tempfile.TemporaryDirectory() as where:
        where = pathlib.Path(where)
        text = where / "text.txt"
        content = ROOT / "tools/default-model/content"
        text.write_text("".join((content / n).read_text() for n in ("product.txt", "concepts.txt")))
        we(command, "convert", "--hf-path", ROOT / "models/default", "--mlx-path", where / "float", "-d", "--dtype", "float32")
        for bits in (3, 4):
            wrong = check(command, where / "float", where / f"bits{bits}", text, bits)
            if wrong:
                print(f"{bits} bits: {wrong}")
                failed += 1
    print("failed" if failed else "calibrated folders agree with mlx-lm")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
