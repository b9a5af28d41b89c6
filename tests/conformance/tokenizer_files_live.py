#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Vocabularies that are no tokenizer.json: random texts through our command and through the libraries they belong to.

    tokenizer_files_live.py [-n TEXTS] [--seed SEED] [--only NAME] [--keep DIR]

The references are PyPI's sentencepiece (0.2.3) and tiktoken (0.14.0); both must be installed, else the run is skipped (status
77). Models of every kind are trained on made-up text: BPE, Unigram, WORD and CHAR with each setting that changes ids, and
some written by hand that no trainer makes (equal scores, unused pieces, characters that are no piece). The ids of each text and
the text of each list of ids must be the same. The command is $WHISPERENGINE or build/release/whisperengine. A difference
prints model, text and both answers; the seed makes it again."""
import argparse
import base64
import io
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import sentencepiece
    import tiktoken
    from sentencepiece import sentencepiece_model_pb2 as proto
except ImportError as missing:
    print(f"skipped: {missing} (pip install sentencepiece tiktoken protobuf)")
    sys.exit(77)

WORDS = ["hello", "world", "token", "the", "quick", "brown", "fox", "été", "naïve", "数据", "模型", "这是", "こんにちは",
         "привет", "foo", "bar", "1234", "2024", "x+y", "a,b", "don't", "we'LL", "aaaa", "ABC", "Straße", "ﬁ", "①", "½", "🙂",
         "(x)", "{", "}", "==", "def f():", "return", "ελλάδα", "한국어", "안녕", "ﬀ", "Ⅳ", "…", "ㄱ", "e\u0301", "A\u030a"]
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\t", "\r\n", "\u3000", "\u00a0", "\u2581", "\u200b", "", ""]
RARE = ["\u0000", "\u0301", "\ufeff", "\ufffd", "\u2028", "\U0010ffff", "\u00ad", "\x7f", "\x01", "\ue000", "𠀀", "ʰ", "Dž", "\u0345",
        "<s>x"[1:], "<0x41>", "<unk>"[:3], "<sep>", "<sep", "<sep>x", "ello", "lo w", "aaaaaaaaaaa", "ababababab", "=" * 9]
SYMBOLS = ["<sep>", "<sep>x", "ello", "lo w", "lo\u2581w", "①", "aa"]


def random_text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 6, 12, 40])):
        kind = rng.random()
        if kind < 0.6:
            parts.append(rng.choice(WORDS))
        elif kind < 0.75:
            parts.append(rng.choice(RARE))
        elif kind < 0.9:
            parts.append("".join(rng.choice("ab lhewo.<>1é数") for _ in range(rng.randint(1, 12))))
        else:
            rune = rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x2000, 0x3100), rng.randrange(0xAC00, 0xD7A3),
                               rng.randrange(0xF900, 0xFFFD), rng.randrange(0x1F300, 0x1FAFF)])
            parts.append(chr(rune))
        parts.append(rng.choice(SPACES))
    return "".join(parts)


# ---- models ----

def corpus(rng):
    lines = []
    for _ in range(1500):
        words = [rng.choice(WORDS) + rng.choice(["", "", "s", "ed", "ing", ".", ","]) for _ in range(rng.randint(3, 14))]
        lines.append(" ".join(words))
    return lines


def train(lines, **settings):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, minloglevel=2, num_threads=1,
                                             character_coverage=settings.pop("character_coverage", 0.995),
                                             hard_vocab_limit=settings.pop("hard_vocab_limit", False), **settings)
    return out.getvalue()


def trained(lines):
    user = dict(user_defined_symbols=SYMBOLS, control_symbols=["<cls>"])
    yield "bpe", train(lines, model_type="bpe", vocab_size=300)
    yield "bpe-llama", train(lines, model_type="bpe", vocab_size=560, byte_fallback=True, split_digits=True,
                             normalization_rule_name="identity", remove_extra_whitespaces=False,
                             allow_whitespace_only_pieces=True)
    yield "bpe-user", train(lines, model_type="bpe", vocab_size=300, **user)
    yield "bpe-user-bytes", train(lines, model_type="bpe", vocab_size=500, byte_fallback=True, add_dummy_prefix=False,
                                  normalization_rule_name="nfkc", **user)
    yield "bpe-no-escape", train(lines, model_type="bpe", vocab_size=280, split_by_whitespace=False)
    yield "bpe-suffix", train(lines, model_type="bpe", vocab_size=300, treat_whitespace_as_suffix=True)
    yield "bpe-suffix-spaces", train(lines, model_type="bpe", vocab_size=300, treat_whitespace_as_suffix=True,
                                     remove_extra_whitespaces=False)
    yield "unigram", train(lines, model_type="unigram", vocab_size=300)
    yield "unigram-t5", train(lines, model_type="unigram", vocab_size=400, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    yield "unigram-bytes", train(lines, model_type="unigram", vocab_size=560, byte_fallback=True,
                                 normalization_rule_name="identity", remove_extra_whitespaces=False)
    yield "unigram-user", train(lines, model_type="unigram", vocab_size=300, **user)
    yield "unigram-cf", train(lines, model_type="unigram", vocab_size=300, normalization_rule_name="nmt_nfkc_cf",
                              add_dummy_prefix=False, unk_surface="?!")
    yield "unigram-words", train(lines, model_type="unigram", vocab_size=300, split_by_whitespace=False,
                                 normalization_rule_name="nfkc_cf", remove_extra_whitespaces=False)
    yield "word", train(lines, model_type="word", vocab_size=200)
    yield "char", train(lines, model_type="char", vocab_size=120, user_defined_symbols=["ello", "<sep>"])


def edited(data, rng):
    """Models that no trainer makes: the file's freedom is larger than the trainer's."""
    for name in ("bpe", "unigram", "bpe-llama", "unigram-user", "bpe-user"):
        model = proto.ModelProto.FromString(data[name])
        normal = [p for p in model.pieces if p.type == p.NORMAL]
        for piece in rng.sample(normal, len(normal) // 5):
            piece.type = piece.UNUSED
        yield name + "-unused", model.SerializeToString()

        model = proto.ModelProto.FromString(data[name])
        for piece in model.pieces:
            if piece.type == piece.NORMAL:
                piece.score = float(rng.choice([-1, -2, -3]))
        yield name + "-equal", model.SerializeToString()

        for piece in model.pieces:
            if piece.type == piece.NORMAL:
                piece.score += 2.5
        yield name + "-positive", model.SerializeToString()

        model = proto.ModelProto.FromString(data[name])
        kept = [p for p in model.pieces if p.type != p.NORMAL or len(p.piece) > 1 or rng.random() < 0.5]
        extra = [proto.ModelProto.SentencePiece(piece=run, score=-rng.random() * 9)
                 for run in ("a" * 3, "a" * 5, "bab", "aba", "\u2581\u2581", "\u2581\u2581\u2581", "===")
                 if run not in {p.piece for p in kept}]
        del model.pieces[:]
        model.pieces.extend(kept + extra)
        yield name + "-sparse", model.SerializeToString()


PATTERNS = {  # as the families' own tokenizers have them
    "qwen": (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""),
    "qwen3_5": (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""),
    "llama": (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""),
    "kimi": "|".join([
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"]),
}


def patterns():
    import tiktoken_ext.openai_public as public
    public.load_tiktoken_bpe = lambda *_, **__: {}
    found = dict(PATTERNS)
    for name in ("r50k_base", "cl100k_base", "o200k_base"):
        found[name] = getattr(public, name)()["pat_str"]
    return found


def ranks_of(lines, rng, size):
    """Byte pairs merged by count, and some tokens that no merge made, as vocabularies of the wild have them."""
    words = [list(bytes([b]) for b in (" " + w).encode()) for w in WORDS + ["aaaa", "abab", "    ", "====", "\n\n"]] * 3
    ranks = {bytes([b]): i for i, b in enumerate(rng.sample(range(256), 256))}
    while len(ranks) < size:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        pair = max(counts, key=lambda p: (counts[p], p))
        joined = pair[0] + pair[1]
        ranks.setdefault(joined, len(ranks))
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == pair:
                    word[i:i + 2] = [joined]
                i += 1
    for token in (b"aaa", b"bab", b"aba", b"aaaaa", b"the quick", " hello world".encode(), b"   ", b"=====", b"xyzzy"):
        ranks.setdefault(token, len(ranks))
    return ranks


# ---- comparing ----

def jsonl(command, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


class Comparison:
    def __init__(self, command):
        self.command, self.checks, self.wrong = command, 0, 0

    def differ(self, name, what, given, got, want):
        self.wrong += 1
        if self.wrong <= 20:
            print(f"{name}: {what} differ\n  given {given!a}\n  got   {got!a}\n  want  {want!a}")

    def run(self, name, folder, texts, encode, decode, id_lists):
        got = jsonl([self.command, "tokenize", "--model", folder, "--jsonl"], [{"text": t, "special": False} for t in texts])
        for text, ids in zip(texts, got, strict=True):
            self.checks += 1
            if ids != encode(text):
                self.differ(name, "ids", text, ids, encode(text))
        for stream in (False, True):
            got = jsonl([self.command, "detokenize", "--model", folder, "--jsonl"],
                        [{"ids": ids, "skip_special": True, "stream": stream} for ids in id_lists])
            for ids, text in zip(id_lists, got, strict=True):
                self.checks += 1
                text = "".join(text) if stream else text
                if text != decode(ids):
                    self.differ(name, "streams" if stream else "texts", ids, text, decode(ids))


def write(folder, files):
    os.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def run_sentencepiece(compare, options, rng, folder):
    data = dict(trained(corpus(rng)))
    data.update(edited(data, rng))
    for name, model in data.items():
        if options.only and options.only != name:
            continue
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        place = write(os.path.join(folder, name), {"tokenizer.model": model})
        # control pieces are found in texts here and not there: no text holds one
        texts = [t for t in (random_text(rng) for _ in range(options.texts)) if "<s>" not in t and "</s>" not in t]
        size = reference.vocab_size()
        special = {i for i in range(size) if reference.is_control(i)}
        bytes_ = [i for i in range(size) if reference.is_byte(i)]
        lists = [reference.encode(t) for t in texts[:len(texts) // 2]]
        for _ in range(options.texts // 2):
            pool = range(size) if not bytes_ or rng.random() < 0.5 else bytes_
            lists.append([rng.choice(pool) for _ in range(rng.randint(0, 12))])
        # a skipped token joins the bytes on its two sides here, and parts them there
        lists = [[i for i in ids if i not in special or not bytes_] for ids in lists]
        compare.run(name, place, texts, reference.encode, reference.decode, lists)


def run_tiktoken(compare, options, rng, folder):
    import unicodedata
    for name, pattern in patterns().items():
        if options.only and options.only != name:
            continue
        ranks = ranks_of(corpus(rng), rng, 500)
        special = {"<|begin|>": len(ranks), "<|end|>": len(ranks) + 1, "<|gap|>": len(ranks) + 7}
        reference = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        listed = {str(i): {"content": t, "special": True} for t, i in special.items()}
        files = {f"{name}.tiktoken": b"".join(base64.b64encode(t) + b" %d\n" % r for t, r in ranks.items()),
                 "tokenizer_config.json": {"added_tokens_decoder": listed}}
        if name == "llama":
            files = {"tokenizer.model": files["llama.tiktoken"], "config.json": {"model_type": "llama"},
                     "tokenizer_config.json": files["tokenizer_config.json"]}
        if name == "kimi":
            files = {"tiktoken.model": files["kimi.tiktoken"], "tokenizer_config.json": files["tokenizer_config.json"]}
            files["tokenizer_config.json"]["auto_map"] = {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}
        place = write(os.path.join(folder, name), files)
        texts = [random_text(rng) for _ in range(options.texts)]
        texts += [t + rng.choice(list(special)) + random_text(rng) for t in texts[:100]]

        def encode(text):
            if name.startswith("qwen"):  # its tokenizer does so before tiktoken sees the text
                text = unicodedata.normalize("NFC", text)
            return reference.encode(text, allowed_special="all")

        lists = [encode(t) for t in texts[:len(texts) // 2]]
        lists += [[rng.randrange(len(ranks)) for _ in range(rng.randint(0, 12))] for _ in range(options.texts // 2)]
        lists = [[i for i in ids if i < len(ranks)] for ids in lists]
        compare.run(name, place, texts, encode, reference.decode, lists)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", dest="texts", type=int, default=1000, help="texts per model")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", help="one model by name")
    parser.add_argument("--keep", help="leave the models in this folder")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    compare = Comparison(os.environ.get("WHISPERENGINE", "build/release/whisperengine"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or scratch
        run_sentencepiece(compare, options, random.Random(options.seed), folder)
        run_tiktoken(compare, options, random.Random(options.seed), folder)
    print(f"{compare.checks - compare.wrong} of {compare.checks} agree")
    return 1 if compare.wrong or not compare.checks else 0


if __name__ == "__main__":
    sys.exit(main())
