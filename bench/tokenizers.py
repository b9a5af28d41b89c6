#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our tokenizers beside PyPI's `tokenizers` 0.23.3: encoding on one thread, opening for the first time and again, peak memory.

    bench/tokenizers.py [--rounds N] [--mb N] [NAME or FOLDER ...]

NAMEs are folders in $WE_TOKENIZERS (default: build/conformance/tokenizers, which `make conformance` fills). The text is made
with a fixed seed: English-like, code and Chinese in equal parts; both take it in pieces of 4 KB, one after the other. Runs
alternate, each in a process of its own; shown are the median and, in brackets, the least and the greatest."""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIECE = 4096

THEIRS = r"""
import json, os, resource, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers
folder, text, piece = sys.argv[1:]
begin = time.perf_counter()
tok = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
open_s = time.perf_counter() - begin
raw, pieces, at = open(text, "rb").read(), [], 0
while at < len(raw):
    end = min(len(raw), at + int(piece))
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end -= 1
    pieces.append(raw[at:end].decode())
    at = end
begin, n_ids = time.perf_counter(), 0
for p in pieces:
    n_ids += len(tok.encode(p, add_special_tokens=False))
encode_s = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"open_s": open_s, "encode_s": encode_s, "n_ids": n_ids, "peak_bytes": peak}))
"""

SYLLABLES = "a e i o u an en in on er re the st th ing ly ment pro con de com ti al ar is it or es ed".split()
LETTERS = "bcdfghjklmnprstvwz"
CHINESE = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从"
CODE = ["def {a}({b}, {c}=None):\n    if {b} is None:\n        return {c}\n    return [{a}(x) for x in {b}]\n\n",
        "for (size_t i = 0; i < {a}->n_{b}; i++) {{\n\t{c}[i] = {a}->{b}[i] * 0x{n:x};\n}}\n",
        "const {a} = await fetch(`/api/{b}/${{{c}.id}}`, {{ method: 'POST' }});\n", "#include \"{a}/{b}.h\"\n",
        "    assert {a}.{b}({n}) == {c}[{n}], f\"expected {{{c}}}\"  # {b}\n", "SELECT {a}, COUNT(*) FROM {b} WHERE {c} > {n} GROUP BY {a};\n"]


def make_text(n_bytes, seed=20240726):
    r = random.Random(seed)
    words = ["".join(r.choice(LETTERS) * (r.random() < 0.6) + r.choice(SYLLABLES) for _ in range(r.choice((1, 1, 2, 2, 3, 4)))) for _ in range(30000)]
    weights = [1 / (i + 2) for i in range(len(words))]
    bank = r.choices(words, weights, k=400000)

    def english():
        sentence = [bank[r.randrange(len(bank))] for _ in range(r.randint(5, 25))]
        return sentence[0].title() + " " + " ".join(sentence[1:]) + r.choice((". ", ", ", "? ", "; it's ", ".\n", ".\n\n"))

    def chinese():
        return "".join(r.choice(CHINESE) for _ in range(r.randint(5, 30))) + r.choice("，。！？；、\n")

    def code():
        a, b, c = (bank[r.randrange(len(bank))] for _ in range(3))
        return r.choice(CODE).format(a=a, b=b, c=c, n=r.randrange(10000))

    out, done = [], 0
    while done < n_bytes:  # a paragraph of each in turn
        for make in (english, code, chinese):
            size = 0
            while size < 2000:
                part = make()
                out.append(part)
                size += len(part.encode())
            done += size
    return "".join(out).encode()


def run(command, **env):
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **env))
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def show(values, unit="", digits=1):
    return f"{statistics.median(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--mb", type=float, default=10)
    p.add_argument("--python", default=sys.executable, help="one that has the package (default: this one)")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    base = os.environ.get("WE_TOKENIZERS", os.path.join(ROOT, "build", "conformance", "tokenizers"))
    names = a.names or sorted(os.listdir(base) if os.path.isdir(base) else [])
    if not names:
        sys.exit(f"{base} holds no tokenizers: run `make conformance` first")
    scratch = tempfile.mkdtemp()
    try:
        text = os.path.join(scratch, "text")
        with open(text, "wb") as f:
            f.write(make_text(int(a.mb * 1e6)))
        size = os.path.getsize(text)
        ours_command = os.path.join(os.environ.get("WE_BUILD_DIR", os.path.join(ROOT, "build", "release")), "bench", "tokenizers")
        print("| tokenizer | ours, MB/s | theirs, MB/s | times | first opening, ms | again, ms | theirs, ms | peak, MB: first | again | theirs |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name in names:
            folder = name if os.path.isdir(name) else os.path.join(base, name)
            first, again, theirs = [], [], []
            for i in range(a.rounds):
                cache = os.path.join(scratch, f"cache{i}")
                first.append(run([ours_command, folder, text, str(PIECE)], XDG_CACHE_HOME=cache, HOME=cache))
                theirs.append(run([a.python, "-c", THEIRS, folder, text, str(PIECE)]))
                again.append(run([ours_command, folder, text, str(PIECE)], XDG_CACHE_HOME=cache, HOME=cache))
                shutil.rmtree(cache, ignore_errors=True)
            if len({x["n_ids"] for x in first + again + theirs}) != 1:
                sys.exit(f"{name}: not the same number of tokens")
            speeds = [[size / 1e6 / x["encode_s"] for x in runs] for runs in (first + again, theirs)]
            opens = [[x["open_s"] * 1e3 for x in runs] for runs in (first, again, theirs)]
            peaks = [statistics.median(x["peak_bytes"] for x in runs) / 1e6 for runs in (first, again, theirs)]
            ratio = statistics.median(speeds[0]) / statistics.median(speeds[1])
            print(f"| {os.path.basename(folder)} | {show(speeds[0])} | {show(speeds[1], digits=2)} | {ratio:.1f} | " +
                  " | ".join(show(o, digits=0) for o in opens) + " | " + " | ".join(f"{x:.0f}" for x in peaks) + " |", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
