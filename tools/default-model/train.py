# SPDX-License-Identifier: Apache-2.0
"""Train the built-in model from nothing: tokenizer, weights, quantized MLX folder, evaluation. See README.md."""
import argparse
import itertools
import math
import multiprocessing as mp
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import evaluate
import export
from dialogues import Writer
from model import Config, Decoder
from text import ChatFormat, train_tokenizer

BUCKETS = (128, 192, 256, 384, 512, 768, 1024, 2048)      # a batch holds rows of one length
_chat = None


def start_worker(tokenizer_json):
    global _chat
    torch.set_num_threads(1)
    _chat = ChatFormat(Tokenizer.from_str(tokenizer_json))


def make_rows(seed, n=1500):
    """A shard of training rows, by bucket: arrays of ids and of loss weights."""
    writer = Writer(seed)
    _chat.rng.seed(seed)
    rows = {b: ([], []) for b in BUCKETS}
    for i in range(n):
        if i % 20 == 0:
            ids, weights = _chat.document(writer.document())
        else:
            ids, weights = _chat.conversation(writer.conversation()[0], rough=0.3)
        ids, weights = ids[:BUCKETS[-1]], weights[:BUCKETS[-1]]
        b = next(b for b in BUCKETS if len(ids) <= b)
        rows[b][0].append(ids + [0] * (b - len(ids)))
        rows[b][1].append(weights + [0.0] * (b - len(weights)))
    return {b: (np.array(i, dtype=np.int16), np.array(w, dtype=np.float16)) for b, (i, w) in rows.items() if i}


def batches(pool, seed, batch_tokens):
    """Batches in an order that depends on the seed alone."""
    waiting = {b: ([], [], 0) for b in BUCKETS}
    shards, running = itertools.count(seed * 1000000), deque()
    while True:
        while len(running) < 32:        # not imap: it would run ahead without bound
            running.append(pool.apply_async(make_rows, (next(shards),)))
        shard = running.popleft().get()
        for b, (ids, weights) in shard.items():
            i, w, n = waiting[b]
            i.append(ids), w.append(weights)
            n += len(ids)
            need = batch_tokens // b
            if n >= need:
                ids, weights = np.concatenate(i), np.concatenate(w)
                while len(ids) >= need:
                    yield ids[:need], weights[:need]
                    ids, weights = ids[need:], weights[need:]
                i, w, n = [ids], [weights], len(ids)
            waiting[b] = (i, w, n)


def bounded(pool, seed, batch_tokens, ahead=64):
    """The same batches, prepared by a thread that runs at most `ahead` in front."""
    q, stop = queue.Queue(ahead), threading.Event()

    def fill():
        for batch in batches(pool, seed, batch_tokens):
            while not stop.is_set():
                try:
                    q.put(batch, timeout=1)
                    break
                except queue.Full:
                    pass
            if stop.is_set():
                return
    threading.Thread(target=fill, daemon=True).start()
    try:
        while True:
            yield q.get()
    finally:
        stop.set()


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True, help="the MLX folder to write")
    a.add_argument("--steps", type=int, default=5200)
    a.add_argument("--batch-tokens", type=int, default=65536)
    a.add_argument("--lr", type=float, default=2e-3)
    a.add_argument("--dropout", type=float, default=0.1)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--minutes", type=float, default=60, help="end the schedule by then at the latest")
    a.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    a.add_argument("--layers", type=int, default=Config.num_hidden_layers)
    a.add_argument("--bits", type=int, default=8)
    a = a.parse_args()

    started = time.time()
    config = Config(num_hidden_layers=a.layers)
    tokenizer = train_tokenizer(config.vocab_size, a.seed)
    config.vocab_size = tokenizer.get_vocab_size()
    print(f"tokenizer: {config.vocab_size} tokens, {time.time() - started:.0f} s", flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool = mp.get_context("spawn").Pool(a.workers, start_worker, (tokenizer.to_str(),))
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    model = Decoder(config, a.dropout).to(device).train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million weights on {device}", flush=True)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=a.lr, betas=(0.9, 0.95), fused=device.type == "cuda")
    began, tokens, waited, losses, source = time.time(), 0, 0.0, [], bounded(pool, a.seed, a.batch_tokens)
    step, progress = 0, 0.0
    while progress < 1:
        progress = max((step + 1) / a.steps, (time.time() - began) / (60 * a.minutes))
        rate = a.lr * min(1, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        t = time.time()
        ids, weights = next(source)
        waited += time.time() - t
        ids = torch.from_numpy(ids).to(device, non_blocking=True).long()
        weights = torch.from_numpy(weights).to(device, non_blocking=True).float()[:, 1:].reshape(-1)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(ids[:, :-1])
        loss = (F.cross_entropy(logits.reshape(-1, config.vocab_size).float(), ids[:, 1:].reshape(-1), reduction="none") * weights).sum() \
            / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        tokens += ids.numel()
        step += 1
        if step % 100 == 0 or step == 10 or progress >= 1:
            mean = torch.stack(losses[-50:]).mean().item()
            print(f"step {step}  loss {mean:.4f}  {tokens / 1e6:.0f} M tokens  {tokens / (time.time() - began) / 1e3:.0f} k/s  "
                  f"waited {waited:.0f} s  {time.time() - began:.0f} s", flush=True)
    source.close()
    pool.terminate()

    export.write_folder(a.out, model, tokenizer, bits=a.bits)
    print(f"written: {sum(f.stat().st_size for f in a.out.iterdir()) / 1e6:.2f} MB, {time.time() - started:.0f} s", flush=True)
    evaluate.report(a.out, device)
    print(f"all: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
