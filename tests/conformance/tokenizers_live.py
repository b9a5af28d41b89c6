#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random texts through our tokenizers and through PyPI's `tokenizers` 0.23.3: ids with and without special tokens, decoded
text, and streams must be the same.

    tokenizers_live.py [-n TEXTS] [--seed SEED] [NAME or FOLDER ...]

A NAME is a folder in $WE_TOKENIZERS (real tokenizers, as `make conformance` fetches them) or in tests/fixtures/tokenizers/tiny;
without one, all of both are compared. TEXTS (default: $WE_LIVE_TEXTS or 10000) is for each real tokenizer; a tiny one gets a
fifth. Ours is the shared library below $WE_BUILD_DIR. A difference prints the seed of its text: --seed with that number and
-n 1 shows it again. Without the package the run is skipped (status 77)."""
import argparse
import ctypes
import os
import random
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
try:
    import tokenizers
    from tokenizers.decoders import DecodeStream
except ImportError:
    print("skipped: PyPI's tokenizers (0.23.3) is not installed")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "fixtures", "tokenizers", "tiny")


# ---- ours ----

class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("message", ctypes.c_char * 4096)]


class Library:
    def __init__(self):
        build = os.environ.get("WE_BUILD_DIR", os.path.join(ROOT, "build", "release"))
        name = "libwhisperengine.dylib" if sys.platform == "darwin" else "libwhisperengine.so"
        self.c = ctypes.CDLL(os.path.join(build, name))
        self.c.we_free.argtypes = [ctypes.c_void_p]


class Ours:
    def __init__(self, library, folder):
        self.c, self.error, self.handle = library.c, Error(), ctypes.c_void_p()
        self.check(self.c.we_tokenizer_open(ctypes.byref(self.handle), folder.encode(), ctypes.byref(self.error)))

    def check(self, status):
        if status:
            raise RuntimeError(self.error.message.decode())

    def close(self):
        self.c.we_tokenizer_close(self.handle)

    def encode(self, text, special):
        ids, n, raw = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t(), text.encode()
        self.check(self.c.we_tokenize(self.handle, raw, ctypes.c_size_t(len(raw)), ctypes.c_bool(special), ctypes.byref(ids),
                                      ctypes.byref(n), ctypes.byref(self.error)))
        out = ids[:n.value]
        self.c.we_free(ids)
        return out

    def decode(self, ids, skip):
        text, n = ctypes.c_void_p(), ctypes.c_size_t()
        self.check(self.c.we_detokenize(self.handle, (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t(len(ids)),
                                        ctypes.c_bool(skip), ctypes.byref(text), ctypes.byref(n), ctypes.byref(self.error)))
        out = ctypes.string_at(text, n.value)
        self.c.we_free(text)
        return out.decode()

    def stream(self, ids):
        """The pieces; a piece that holds part of a character does not decode and raises."""
        d, text, n, out = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t(), []
        self.check(self.c.we_detokenizer_open(ctypes.byref(d), self.handle, ctypes.c_bool(True), ctypes.byref(self.error)))
        try:
            for token in ids:
                self.check(self.c.we_detokenizer_feed(d, ctypes.c_int32(token), ctypes.byref(text), ctypes.byref(n),
                                                      ctypes.byref(self.error)))
                out.append(ctypes.string_at(text, n.value).decode())
            self.check(self.c.we_detokenizer_flush(d, ctypes.byref(text), ctypes.byref(n), ctypes.byref(self.error)))
            out.append(ctypes.string_at(text, n.value).decode())
        finally:
            self.c.we_detokenizer_close(d)
        return out


# ---- texts ----

WORDS = ("the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were we "
         "when your can said there use an each which she do how their if will up other about out many then them these so some her "
         "would make like him into time has look two more write go see number no way could people my than first water been call "
         "who oil its now find long down day did get come made may part don't I'll you've she'd we're WON'T It's HELLO NaïVe "
         "straße über école İstanbul ΑΣΣ ǅ ŉ ﬁn").split()
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; i++) {\n\ta[i] += 0x1F;\n}\n", "if(!p)return NULL;", "#include <stdio.h>\n",
        "SELECT * FROM t WHERE a='b';", "https://example.com/a?b=c&d=%20#e", "{\"key\": [1, 2.5e-3, null]}", "```python\n", "    \t\t", "a->b::c<d>",
        "x = y == z ? 1 : 2;", "\\begin{a}", "$\\alpha_{i}^2$", "<div class=\"x\">", "user@example.com", "2024-07-26T12:34:56Z", "--", "/*", "*/", "!=", "</s"]
RANGES = [(0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF),
          (0xB80, 0xBFF), (0xE00, 0xE7F), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF),
          (0x2100, 0x214F), (0x2150, 0x218F), (0x2190, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x33FF),
          (0x4E00, 0x9FFF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xAC00, 0xD7A3), (0xE000, 0xE010), (0xF900, 0xFAFF), (0xFB00, 0xFDFF),
          (0xFE00, 0xFFFD), (0x10000, 0x103FF), (0x1D400, 0x1D7FF), (0x1F100, 0x1F2FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1FAFF), (0x20000, 0x20100),
          (0x31350, 0x31360), (0xE0000, 0xE007F), (0x10FFF0, 0x10FFFF)]
MARKS = [chr(c) for c in (0x300, 0x301, 0x302, 0x308, 0x323, 0x327, 0x345, 0x5B0, 0x64B, 0x94D, 0x93C, 0xE31, 0x1AB0, 0x20D0, 0x20DD, 0x3099, 0xFE0F, 0xFE20,
                                 0x1D165, 0x200D, 0x200C, 0x1F3FB, 0x903, 0x0F71, 0x115F, 0x1161, 0x11A8)]
SPACES = [" ", " ", " ", "\n", "\t", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u2002", "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff",
          "\u180e", "\x1c", "\x1f", "▁"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "🏴‍☠️", "🫨", "🦙", "1️⃣", "🧑🏿‍🚀", "🇺", "\U0001fae9"]
CHINESE = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小军二无同"
RAW = [chr(c) for c in range(0x20)] + [chr(c) for c in range(0x7F, 0xA0)] + ["\ufffd", "\ufffe", "\uffff", "\u2581", "<0x41>", "<0xE4>", "Ġ", "Ċ", "##", "</w>"]


def piece(r, added):
    kind = r.randrange(16)
    if kind < 3:
        return " ".join(r.choice(WORDS) for _ in range(r.randint(1, 8)))
    if kind == 3:
        return r.choice(CODE)
    if kind == 4:
        return "".join(r.choice(CHINESE) for _ in range(r.randint(1, 12)))
    if kind == 5:
        lo, hi = r.choice(RANGES)
        return "".join(chr(r.randint(lo, hi)) for _ in range(r.randint(1, 8)))
    if kind == 6:
        return r.choice(EMOJI) * r.choice((1, 1, 1, 3))
    if kind == 7:
        return r.choice((r.choice(WORDS)[:1], "e", "한", "が", "क", "あ", " ", "")) + "".join(r.choice(MARKS) for _ in range(r.randint(1, 4)))
    if kind == 8:
        return r.choice(SPACES) * r.randint(1, 6)
    if kind == 9:
        return "".join(r.choice(SPACES) for _ in range(r.randint(1, 5)))
    if kind == 10:
        return "".join(r.choice(RAW) for _ in range(r.randint(1, 3)))
    if kind == 11 and added:
        token = r.choice(added)
        return r.choice(("", "", " ", "\n", "a", "é")) + r.choice((token, token, token, token[:-1], token[1:], token.upper())) + r.choice(("", "", " ", "  ", "b", "1"))
    if kind == 12:
        return str(r.randrange(10 ** r.randint(1, 20)))
    if kind == 13:
        return "".join(r.choice(".,;:!?-'\"()[]{}<>/\\|@#$%^&*_+=~`…—–«»“”‘’、。！？") for _ in range(r.randint(1, 6)))
    if kind == 14:
        while True:
            c = r.randrange(0x110000)
            if not 0xD800 <= c < 0xE000:
                return chr(c)
    one = r.choice(WORDS)
    if r.random() < 0.02:  # very long words
        return (r.choice(one) * r.randint(100, 3000)) if r.random() < 0.5 else "".join(r.choice("abcdefgABéß的0") for _ in range(r.randint(100, 1500)))
    return one.upper() if r.random() < 0.3 else one.title()


def make_text(seed, added):
    r = random.Random(seed)
    return "".join(piece(r, added) for _ in range(r.choice((0, 1, 1, 2, 3, 4, 6, 9))))


# ---- comparing ----

def lengths(pieces):
    total, out = 0, []
    for p in pieces:
        total += len(p.encode())
        out.append(total)
    return out


class Comparison:
    def __init__(self, library, folder, show):
        self.reference = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.reference.no_truncation()
        self.reference.no_padding()
        self.ours, self.show, self.n_bad = Ours(library, folder), show, 0
        self.added = [t.content for t in self.reference.get_added_tokens_decoder().values()][:2000]
        self.n_ids = self.reference.get_vocab_size(True) + 3

    def expect(self, seed, what, source, want, got):
        if want == got:
            return
        self.n_bad += 1
        if self.n_bad <= self.show:
            print(f"--- seed {seed}: {what} of {ascii(source)[:600]}\nwant {ascii(want)[:800]}\ngot  {ascii(got)[:800]}", flush=True)

    def decoded(self, seed, ids, stream):
        text = self.reference.decode(ids, skip_special_tokens=True)
        self.expect(seed, "text", ids, text, self.ours.decode(ids, True))
        self.expect(seed, "text with special tokens", ids, self.reference.decode(ids, skip_special_tokens=False),
                    self.ours.decode(ids, False))
        if not stream:
            return
        theirs, least = DecodeStream(skip_special_tokens=True), []
        try:
            for token in ids:
                least.append(theirs.step(self.reference, token) or "")
        except Exception:  # a run of <0xNN> that turns invalid late contradicts what was given out: the reference raises
            return
        try:
            pieces = self.ours.stream(ids)
        except UnicodeDecodeError:
            return self.expect(seed, "stream", ids, text, "a piece that holds part of a character")
        if not text.startswith("".join(least)):  # contradicted, too, and not noticed
            return
        self.expect(seed, "stream", ids, text, "".join(pieces))
        if any(a > b for a, b in zip(lengths(least), lengths(pieces))):
            self.expect(seed, "stream's progress", ids, least, pieces)

    def run(self, seed):
        text = make_text(seed, self.added)
        want = self.reference.encode(text, add_special_tokens=False).ids
        self.expect(seed, "ids", text, want, self.ours.encode(text, False))
        special = self.reference.encode(text, add_special_tokens=True).ids
        self.expect(seed, "ids with special tokens", text, special, self.ours.encode(text, True))
        self.decoded(seed, special, seed % 4 == 0)
        if seed % 8 == 1:  # ids that no text gives
            r = random.Random(seed)
            noise = list(want)[:40]
            for _ in range(r.randint(1, 6)):
                noise.insert(r.randint(0, len(noise)), r.choice((r.randrange(self.n_ids), r.randrange(min(self.n_ids, 300)))))
            self.decoded(seed, noise, True)


def folders(names):
    real = os.environ.get("WE_TOKENIZERS", "")
    places = [os.path.join(base, n) for base in (real, TINY) if base and os.path.isdir(base) for n in sorted(os.listdir(base))]
    places = [p for p in places if os.path.isfile(os.path.join(p, "tokenizer.json"))]
    if not names:
        return places
    found = []
    for name in names:
        match = [p for p in places if os.path.basename(p) == name] or [name]
        if not os.path.isfile(os.path.join(match[0], "tokenizer.json")):
            sys.exit(f"{name}: no folder with a tokenizer.json")
        found.append(match[0])
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=int(os.environ.get("WE_LIVE_TEXTS", 10000)))
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    p.add_argument("--show", type=int, default=10)
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    if not os.environ.get("WE_TOKENIZERS") and not a.names:
        print("real tokenizers are left out: WE_TOKENIZERS names no folder with them")
    library, n_bad = Library(), 0
    print(f"seed {a.seed}, tokenizers {tokenizers.__version__}, python {sys.version.split()[0]}", flush=True)
    for folder in folders(a.names):
        c = Comparison(library, folder, a.show)
        n = max(1, a.n // 5) if folder.startswith(TINY) and not a.names else a.n
        for seed in range(a.seed, a.seed + n):
            c.run(seed)
        c.ours.close()
        n_bad += c.n_bad
        print(f"{os.path.basename(folder)}: {n} texts, {c.n_bad} differences", flush=True)
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
