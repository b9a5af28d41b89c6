# SPDX-License-Identifier: Apache-2.0
"""What quantizations of the built-in model lose on conversations as it was trained on: each from its beginning, only what the
model learned to say counts. (`whisperengine perplexity` counts every token of its windows; here most of that would be the chat
format's own tokens, which the model never predicts.)

    python3 compare.py --text cal.txt             # conversations to calibrate with, and nothing else
    python3 compare.py BASE MODEL ...             # MLX folders, BASE in float16; float32 arithmetic

The conversations that are compared share no question with those of --text.
"""
import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import torch

from dialogues import Writer
from export import read_folder
from text import ChatFormat

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COMMAND = Path(__file__).resolve().parents[2] / "build/release/whisperengine"


def conversations(seed, n):
    writer = Writer(seed)
    return [writer.conversation()[0] for _ in range(n)]


def questions(talk):
    return {text for role, text in talk if role == "user"}


def render(talk):
    return "".join(f"<|im_start|>{role}\n{text.strip()}<|im_end|>\n" for role, text in talk)


def read(command, folder):
    """A folder of any packing, by what the engine makes of it in float32."""
    if "quantization" not in json.loads((folder / "config.json").read_text()):
        return read_folder(folder, DEVICE)
    with tempfile.TemporaryDirectory() as beside:
        plain = Path(beside) / "plain"
        subprocess.run([command, "convert", "--hf-path", folder, "--mlx-path", plain, "-d", "--dtype", "float32"], check=True,
                       stderr=subprocess.DEVNULL)
        return read_folder(plain, DEVICE)


def batches(chat, talks, size=16):
    rows = sorted((chat.conversation(talk) for talk in talks), key=lambda row: len(row[0]))
    for at in range(0, len(rows), size):
        part = rows[at:at + size]
        length = max(len(ids) for ids, _ in part)
        yield tuple(torch.tensor([list(values) + [0] * (length - len(values)) for values in column], device=DEVICE)
                    for column in zip(*part))


class Sums:
    """Mean and its standard error."""

    def __init__(self):
        self.values = []

    def __str__(self):
        v = torch.cat(self.values).double()
        return f"{v.mean():.6f} ± {v.std() / len(v) ** 0.5:.6f}"


@torch.no_grad()
def compare(base, models, chat, talks):
    """For answers (weight 1) and questions (weight 0.1): loss more than the base's, divergence from it, agreement with it."""
    found = {kind: {name: (Sums(), Sums(), Sums()) for name in models} for kind in ("answers", "questions")}
    losses = {"answers": [], "questions": []}
    for ids, weights in batches(chat, talks):
        want = ids[:, 1:, None]
        masks = {"answers": weights[:, 1:] == 1, "questions": (weights[:, 1:] > 0) & (weights[:, 1:] < 1)}
        b = base(ids)[:, :-1].log_softmax(-1)
        base_loss = -b.gather(-1, want)[..., 0]
        for kind, mask in masks.items():
            losses[kind].append(base_loss[mask])
        for name, model in models.items():
            m = model(ids)[:, :-1].log_softmax(-1)
            each = (-m.gather(-1, want)[..., 0] - base_loss, (b.exp() * (b - m)).sum(-1), (m.argmax(-1) == b.argmax(-1)).float())
            for kind, mask in masks.items():
                for sums, values in zip(found[kind][name], each):
                    sums.values.append(values[mask])
    for kind, of_models in found.items():
        loss = torch.cat(losses[kind]).double()
        print(f"{kind}: {len(loss)} tokens, base perplexity {math.exp(loss.mean()):.5f}")
        for name, (more, divergence, same) in of_models.items():
            print(f"  {name}: loss + {more}, divergence {divergence}, top-1 {same}", flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--text", type=Path, help="write conversations to calibrate with")
    a.add_argument("--conversations", type=int, default=1000)
    a.add_argument("--command", default=COMMAND)
    a.add_argument("folders", nargs="*", type=Path)
    a = a.parse_args()
    calibration = conversations(11, 700)
    if a.text:
        a.text.write_text("".join(map(render, calibration)))
    if a.folders:
        seen = set().union(*map(questions, calibration))
        talks = [t for t in conversations(977, 3 * a.conversations) if not questions(t) & seen][:a.conversations]
        base, tokenizer = read(a.command, a.folders[0])
        models = {folder.name: read(a.command, folder)[0] for folder in a.folders[1:]}
        compare(base, models, ChatFormat(tokenizer), talks)


if __name__ == "__main__":
    main()
