# SPDX-License-Identifier: Apache-2.0
"""MLX folders: affine quantization in MLX's packing, writing, and reading back as a PyTorch model."""
import json

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from model import Config, Decoder
from text import tokenizer_config, write_json

GROUP = 64


def quantize(w, bits):
    """[rows, columns] float32 -> packed uint32, scales, biases (float16), with w = scale * q + bias.

    As in MLX, the edge of larger magnitude is met exactly and zero is a level; scale and bias are rounded to float16
    before q is chosen, so that q makes up for their rounding.
    """
    rows, columns = w.shape
    top = (1 << bits) - 1
    g = w.reshape(rows, columns // GROUP, GROUP).astype(np.float64)
    low, high = g.min(-1), g.max(-1)
    negative = np.abs(low) > np.abs(high)
    scale = np.maximum((high - low) / top, 1e-7)
    scale = np.where(negative, scale, -scale)
    edge = np.where(negative, low, high)
    zero = np.round(edge / scale)
    scale = np.where(zero != 0, edge / np.where(zero != 0, zero, 1), scale).astype(np.float16)
    bias = np.where(zero != 0, edge, 0).astype(np.float16)
    q = np.clip(np.round((g - bias[..., None].astype(np.float64)) / scale[..., None].astype(np.float64)), 0, top)
    q = q.reshape(rows, columns).astype(np.uint32)
    per_word = 32 // bits
    shifts = np.arange(per_word, dtype=np.uint32) * np.uint32(bits)
    packed = (q.reshape(rows, -1, per_word) << shifts).sum(-1, dtype=np.uint32)
    return packed, scale, bias


def dequantize(packed, scale, bias, bits):
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    q = ((packed[..., None] >> shifts) & np.uint32((1 << bits) - 1)).reshape(packed.shape[0], -1, GROUP)
    w = q.astype(np.float32) * scale[..., None].astype(np.float32) + bias[..., None].astype(np.float32)
    return w.reshape(packed.shape[0], -1)


def write_folder(out, model, tokenizer, bits=8):
    out.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, p in model.state_dict().items():
        name, w = "model." + name, p.detach().float().cpu().numpy()
        if w.ndim == 1:
            tensors[name] = w.astype(np.float16)
        else:
            base = name.removesuffix(".weight")
            tensors[name], tensors[base + ".scales"], tensors[base + ".biases"] = quantize(w, bits)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out / "model.safetensors", metadata={"format": "mlx"})
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    end_of_text, im_end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    quantization = {"group_size": GROUP, "bits": bits, "mode": "affine"}
    write_json(out / "config.json", {**model.c.json(), "eos_token_id": [im_end, end_of_text], "pad_token_id": end_of_text,
                                     "quantization": quantization, "quantization_config": quantization})
    write_json(out / "tokenizer_config.json", tokenizer_config(model.c.max_position_embeddings))
    write_json(out / "generation_config.json", {"eos_token_id": [im_end, end_of_text], "pad_token_id": end_of_text,
                                                "do_sample": True, "temperature": 0.3, "top_p": 0.9})


def read_folder(folder, device="cpu"):
    """The model with its weights as quantized, and its tokenizer."""
    keys = json.loads((folder / "config.json").read_text())
    config = Config(**{k: keys[k] for k in Config.__dataclass_fields__})
    tensors, bits = load_file(folder / "model.safetensors"), keys.get("quantization", {}).get("bits")
    state = {}
    for name, w in tensors.items():
        if not name.endswith(".weight"):
            continue
        base = name.removesuffix(".weight")
        if base + ".scales" in tensors:
            w = dequantize(w, tensors[base + ".scales"], tensors[base + ".biases"], bits)
        state[name.removeprefix("model.")] = torch.from_numpy(np.ascontiguousarray(w)).float()
    model = Decoder(config)
    model.load_state_dict(state)
    return model.to(device).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
