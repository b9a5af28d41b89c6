#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random tokenizer.json files: components of every kind put together at random, patterns made at random, a small model trained
behind them. Ids, decoded texts and streams of random texts must be those of PyPI's `tokenizers` 0.23.3; what it cannot encode,
we must refuse too.

    tokenizer_parts_live.py [-n TOKENIZERS] [--texts TEXTS] [--seed SEED] [--keep FOLDER]

Ours is the shared library below $WE_BUILD_DIR. A difference prints the tokenizer's seed: --seed with that number and -n 1 shows it
again, --keep leaves the file. Without the package the run is skipped (status 77)."""
import argparse
import json
import os
import random
import shutil
import sys
import tempfile

import tokenizers_live as live  # skips where tokenizers is missing
import tokenizers
from tokenizers import models, normalizers, trainers

PRECOMPILED = os.path.join(live.TINY, "unigram-precompiled", "tokenizer.json")
CLASSES = ["\\p{L}", "\\p{N}", "\\p{Lu}", "\\p{Ll}", "\\p{P}", "\\p{S}", "\\p{M}", "\\p{Zs}", "\\p{Han}", "\\p{^L}", "\\P{N}", "\\s", "\\S", "\\w",
           "\\W", "\\d", "\\D", "\\h", "\\H", "\\R", ".", "[a-z]", "[^a-z]", "[A-Z0-9_]", "[^\\s\\p{L}\\p{N}]", "[\\p{L}\\p{M}]", "[[:alpha:]]",
           "[[:^digit:]]", "[[:punct:]]", "[a-z&&[^aeiou]]", "[一-龥]", "[\\r\\n]", "[^\\r\\n\\p{L}]", "\\p{Latin}", "\\p{Cyrillic}", "\\p{Alnum}", "[àâ\\-ß]",
           "[\\x20-\\x2f]", "\\x{1F600}", "\\u00e9", "[\\u0300-\\u036f]", "\\t", "\\n", "[\\]\\[]", "[^\\w\\s]", "\\p{Hiragana}", "[\\p{Lo}--[一]]"]
LITERALS = ["a", "e", "the", " ", "'", "-", ".", "\\.", "\\+", "1", "é", "的", "ß", "🦙", "\u0301", "s", "ing", "\\(", "I", "ı", "K", "ſ"]


# ---- patterns ----

def pattern(r, depth=3):
    kind = r.randrange(12) if depth else r.randrange(3)
    if kind < 2:
        return r.choice(CLASSES)
    if kind == 2:
        return r.choice(LITERALS)
    if kind < 6:
        return "".join(pattern(r, depth - 1) for _ in range(r.randint(1, 3)))
    if kind == 6:
        return r.choice(("(?:", "(", "(?>", "(?i:", "(?m:", "(?i-m:", "(?<n%d>" % r.randrange(10 ** 6))) + pattern(r, depth - 1) + ")"
    if kind == 7:
        return "(?:" + "|".join(pattern(r, depth - 1) for _ in range(r.randint(2, 3))) + ")"
    if kind == 8:
        return r.choice(("(?=", "(?!")) + pattern(r, depth - 1) + ")"
    if kind == 9:
        return r.choice(("(?<=", "(?<!")) + r.choice(CLASSES + LITERALS) + ")"
    if kind == 10:
        return r.choice(("^", "$", "\\b", "\\B", "\\A", "\\z", "\\Z", "(?i)", "(?-i)"))
    body = pattern(r, depth - 1)
    count = r.choice(("*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "{,2}", "*?", "+?", "??", "*+", "++", "?+", "{1,2}?"))
    return "(?:" + body + ")" + count


FAMILIES = [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r" ?[^(\s|[.,!?…。，、।۔،])]+", r"\d(?=(?:\d{3})*(?:\D|$))", r"(?=(\d{3})+(?!\d))", r" {2,}", r"\n+", r"\s+$", r"^\s+", r"(?<=\p{L})(?=\p{N})"]


def some_pattern(r):
    kind = r.random()
    if kind < 0.2:
        return {"String": r.choice((" ", "a", "the", "▁", "e", ".", "\n", "", "  ", "é", "ab", "(", "\\s"))}
    if kind < 0.4:
        return {"Regex": r.choice(FAMILIES)}
    return {"Regex": "|".join(pattern(r) for _ in range(r.choice((1, 1, 2, 3))))}


def takes_nothing(where):
    """Whether a pattern matches between characters."""
    replace = normalizers.Replace(tokenizers.Regex(where["Regex"]) if "Regex" in where else where["String"], "\ue000")
    return any(replace.normalize_str(c).count("\ue000") > (c not in replace.normalize_str(c)) for c in "aé 1.的")


# ---- components ----

def flag(r):
    return r.random() < 0.5


def normalizer(r, precompiled):
    return r.choice((
        lambda: {"type": r.choice(("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents"))},
        lambda: {"type": "Strip", "strip_left": flag(r), "strip_right": flag(r)},
        lambda: {"type": "Replace", "pattern": some_pattern(r), "content": r.choice(("", " ", "▁", "x", "的", "ab", "--"))},
        lambda: {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        lambda: {"type": "Prepend", "prepend": r.choice(("▁", " ", "ab", "é"))},
        lambda: {"type": "BertNormalizer", "clean_text": flag(r), "handle_chinese_chars": flag(r), "strip_accents": r.choice((None, True, False)),
                 "lowercase": flag(r)},
        lambda: {"type": "Precompiled", "precompiled_charsmap": precompiled},
        lambda: {"type": "ByteLevel"}))()


def pre_tokenizer(r):
    behavior = r.choice(("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"))
    scheme = r.choice(("always", "first", "never"))
    return r.choice((
        lambda: {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": flag(r), "use_regex": flag(r)},
        lambda: {"type": "Split", "pattern": some_pattern(r), "behavior": behavior, "invert": flag(r)},
        lambda: {"type": "Split", "pattern": some_pattern(r), "behavior": behavior, "invert": r.random() < 0.2},
        lambda: {"type": "Metaspace", "replacement": r.choice("▁▁▁_é"), "prepend_scheme": scheme, "split": flag(r)},
        lambda: {"type": r.choice(("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"))},
        lambda: {"type": "Punctuation", "behavior": behavior},
        lambda: {"type": "Digits", "individual_digits": flag(r)},
        lambda: {"type": "CharDelimiterSplit", "delimiter": r.choice(" ae-的é▁")},
        lambda: {"type": "FixedLength", "length": r.randint(1, 7)}))()


def decoder(r):
    return r.choice((
        lambda: {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": flag(r), "use_regex": flag(r)},
        lambda: {"type": "ByteFallback"}, lambda: {"type": "Fuse"},
        lambda: {"type": "Strip", "content": r.choice(" a▁é"), "start": r.randint(0, 2), "stop": r.randint(0, 2)},
        lambda: {"type": "Metaspace", "replacement": r.choice("▁▁_é"), "prepend_scheme": r.choice(("always", "first", "never")), "split": flag(r)},
        lambda: {"type": "WordPiece", "prefix": r.choice(("##", "", "a")), "cleanup": flag(r)},
        lambda: {"type": "BPEDecoder", "suffix": r.choice(("</w>", "e", ""))},
        lambda: {"type": "CTC", "pad_token": r.choice(("<pad>", "a")), "word_delimiter_token": r.choice(("|", "e")), "cleanup": flag(r)},
        lambda: {"type": "Replace", "pattern": some_pattern(r), "content": r.choice(("", " ", "x", "é"))},
        lambda: {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}))()


def sequence(r, kind, key, make, most):
    n = r.choice((0, 1, 1, 2, 2, most))
    parts = [make() for _ in range(n)]
    if kind == "Sequence" and key == "normalizers":  # in a normalizer that breaks the reference's alignments, and its texts
        parts = [p for p in parts if "pattern" not in p or not takes_nothing(p["pattern"])]
    if not parts:
        return None
    return parts[0] if n == 1 and flag(r) else {"type": kind, key: parts}


def post_processor(r, special):
    a, b = r.choice(special), r.choice(special)

    def template():
        pieces = [{"Sequence": {"id": "A", "type_id": 0}}]
        for token in (a, b):
            if flag(r):
                pieces.insert(r.randint(0, len(pieces)), {"SpecialToken": {"id": token[0], "type_id": r.randrange(2)}})
        if r.random() < 0.1:
            pieces.append({"Sequence": {"id": "A", "type_id": 1}})
        used = {p["SpecialToken"]["id"] for p in pieces if "SpecialToken" in p}
        return {"type": "TemplateProcessing", "single": pieces, "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (a, b) if t in used}}

    def one():
        return r.choice((
            template, template,
            lambda: {"type": "BertProcessing", "sep": list(a), "cls": list(b)},
            lambda: {"type": "RobertaProcessing", "sep": list(a), "cls": list(b), "trim_offsets": flag(r), "add_prefix_space": flag(r)},
            lambda: {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": flag(r), "use_regex": flag(r)}))()

    kind = r.random()
    return None if kind < 0.2 else one() if kind < 0.8 else {"type": "Sequence", "processors": [one() for _ in range(r.randint(1, 2))]}


# ---- models ----

def train(r, texts, norm, pre):
    """A model of some kind over what normalizer and pre-tokenizer make of the texts, and what its settings may be."""
    kind = r.choice(("BPE", "BPE", "BPE", "Unigram", "Unigram", "WordPiece", "WordLevel"))
    size, special = r.randint(60, 400), ["<unk>", "<s>", "</s>"]
    byte_tokens = ["<0x%02X>" % b for b in range(256)] if flag(r) else []
    if kind == "BPE":
        model, affixes = models.BPE(unk_token="<unk>"), {}
        if r.random() < 0.3:
            affixes["continuing_subword_prefix"] = "##"
        if r.random() < 0.3:
            affixes["end_of_word_suffix"] = "</w>"
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False, **affixes)
    elif kind == "Unigram":
        model, trainer = models.Unigram(), trainers.UnigramTrainer(vocab_size=size + 700, special_tokens=special, unk_token="<unk>", show_progress=False)
    elif kind == "WordPiece":
        model, trainer = models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    else:
        model, trainer = models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    t = tokenizers.Tokenizer(model)
    head = json.loads(t.to_str())
    head["normalizer"], head["pre_tokenizer"] = norm, pre
    t = tokenizers.Tokenizer.from_str(json.dumps(head))  # refuses what the reference cannot read
    t.train_from_iterator(texts, trainer)
    whole = json.loads(t.to_str())
    model = whole["model"]
    if kind == "BPE":
        if byte_tokens:
            for token in byte_tokens:
                model["vocab"].setdefault(token, len(model["vocab"]))
        model.update(byte_fallback=flag(r), fuse_unk=flag(r), ignore_merges=r.random() < 0.3, unk_token=r.choice(("<unk>", "<unk>", None)))
        if flag(r):
            for token in r.sample(sorted(model["vocab"]), min(5, len(model["vocab"]))):  # tokens that no merge reaches
                model["vocab"].setdefault(token + token, len(model["vocab"]))
        if flag(r):
            model["merges"] = [list(m) if not isinstance(m, str) else m.split(" ") for m in model["merges"]]
        elif all(" " not in part for m in model["merges"] for part in m):
            model["merges"] = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    elif kind == "Unigram":
        vocab = model["vocab"]
        if byte_tokens:
            vocab.extend([token, -r.random() * 9] for token in byte_tokens if token not in {t for t, _ in vocab})
        how = r.random()
        if how < 0.3:  # ties
            for entry in vocab[3:]:
                entry[1] = float(-r.randint(1, 3) * len(entry[0]))
        elif how < 0.5:
            for entry in vocab[3:]:
                entry[1] = r.uniform(-12, 2)
        model["byte_fallback"] = flag(r)
        model["unk_id"] = r.choice((0, 0, 0, None))
    elif kind == "WordPiece":
        model["max_input_chars_per_word"] = r.choice((100, 100, 7, 0))
        if r.random() < 0.2:
            model["continuing_subword_prefix"] = r.choice(("", "@@"))
    if r.random() < 0.05:
        model["unk_token"] = "missing"
    return whole


def added_tokens(r, whole):
    vocab, normal = whole["model"]["vocab"], tokenizers.Tokenizer.from_str(json.dumps(whole)).normalizer
    n = max([i for i in vocab.values()] + [len(vocab) - 1]) + 1 if isinstance(vocab, dict) else len(vocab)
    known = sorted(vocab) if isinstance(vocab, dict) else [t for t, _ in vocab]
    contents = ["[X]", "<|im_end|>", "the", "  ", "\n\n", "É", "▁", "a b", "Hello", "ß", "</s>s", "[x]", "的", "e\u0301", " ", "ing", "'s"]
    forms = set()
    for content in r.sample(contents, r.randint(0, 6)) + r.sample(known, min(2, len(known))):
        if any(t["content"] == content for t in whole["added_tokens"]):
            continue
        form = normal.normalize_str(content) if normal else content
        if not form or form in forms:  # an empty one is found everywhere, within characters too; of equal ones any is, from load to load
            continue
        forms.add(form)
        ids = vocab if isinstance(vocab, dict) else {t: i for i, (t, _) in enumerate(vocab)}
        token_id = ids.get(content, n)
        n += token_id == n
        whole["added_tokens"].append({"id": token_id, "content": content, "single_word": flag(r), "lstrip": flag(r), "rstrip": flag(r), "normalized": flag(r),
                                      "special": flag(r)})
    whole["added_tokens"].sort(key=lambda t: t["id"])


def make(seed, precompiled):
    r = random.Random(seed)
    corpus = [live.make_text(r.randrange(1 << 30), []) for _ in range(60)] + ["the cat's hat 123 ing the the é 的一是" * 3] * 5
    norm = sequence(r, "Sequence", "normalizers", lambda: normalizer(r, precompiled), 4)
    pre = sequence(r, "Sequence", "pretokenizers", lambda: pre_tokenizer(r), 4)
    whole = train(r, [t for t in corpus if len(t) < 2000], norm, pre)
    added_tokens(r, whole)
    whole["post_processor"] = post_processor(r, [(t["content"], t["id"]) for t in whole["added_tokens"]])
    whole["decoder"] = sequence(r, "Sequence", "decoders", lambda: decoder(r), 5)
    if flag(r):
        whole["truncation"] = {"direction": r.choice(("Left", "Right")), "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        whole["padding"] = {"strategy": r.choice(("BatchLongest", {"Fixed": 20})), "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0,
                            "pad_token": "<unk>"}
    return whole


# ---- comparing ----

class Parts(live.Comparison):
    """What the reference cannot encode, we must refuse; the seed that is printed is the text's."""

    def answer(self, do):
        try:
            return do()
        except UnicodeDecodeError:
            raise
        except RuntimeError as e:
            return f"refused: {e}"
        except Exception:
            return "refused"
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt):
                raise
            return "panicked"

    def same(self, seed, what, source, ask, got):
        """Its answer, where both are the same and there is one."""
        want = self.answer(lambda: ask(self.reference))
        if want == "panicked":  # its alignments go wrong where a normalizer removes a text's begin; some decoders want tokens
            return None
        refused = isinstance(want, str) and want == "refused" and isinstance(got, str) and got.startswith("refused")
        if refused or want == got:
            return None if refused else want
        self.expect(seed, what, source, want, got)
        return None

    def run(self, seed):
        text = live.make_text(seed, self.added)
        ids = None
        for special in (False, True):
            def encode(t, special=special):
                t.no_truncation()
                t.no_padding()
                return t.encode(text, add_special_tokens=special).ids
            ids = self.same(seed, "ids" + " with special tokens" * special, text, encode, self.answer(lambda: self.ours.encode(text, special)))
            if ids is None:
                return
        self.decoded(seed, ids, True)
        r = random.Random(seed)
        self.decoded(seed, [r.randrange(self.n_ids) for _ in range(r.randint(0, 12))], True)

    def decoded(self, seed, ids, stream):
        for skip in (False, True):
            text = self.same(seed, f"text, skip_special_tokens={skip}", ids, lambda t: t.decode(ids, skip_special_tokens=skip),
                             self.answer(lambda: self.ours.decode(ids, skip)))
            if text is None:
                return
        if stream:
            self.streamed(seed, ids, text)

    def streamed(self, seed, ids, text):
        """A stream gives what decoding at once does, unless the text of fewer ids is no begin of that of all: there the
        reference's own stream has given out too much. How early the text comes is not compared: a regular expression that
        replaces in all of the text makes us wait for the end, while the reference hopes for the best."""
        for n in range(len(ids)):
            some = self.answer(lambda: self.reference.decode(ids[:n], skip_special_tokens=True))
            if not some.endswith("\ufffd") and not text.startswith(some):
                return
        self.expect(seed, "stream", ids, text, "".join(self.ours.stream(ids)))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=max(1, int(os.environ.get("WE_LIVE_TEXTS", 10000)) // 20), help="tokenizers")
    p.add_argument("--texts", type=int, default=25)
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    p.add_argument("--show", type=int, default=3)
    p.add_argument("--keep")
    a = p.parse_args()
    with open(PRECOMPILED, encoding="utf-8") as f:
        parts = json.load(f)["normalizer"]
    precompiled = next(n["precompiled_charsmap"] for n in parts.get("normalizers", [parts]) if n["type"] == "Precompiled")
    sys.stderr = os.fdopen(os.dup(2), "w")  # Rust's own goes nowhere: it writes a page for each panic
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    library, n_bad, n_refused, n_compared = live.Library(), 0, 0, 0
    print(f"seed {a.seed}, tokenizers {tokenizers.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(a.seed, a.seed + a.n):
            folder = os.path.join(a.keep or scratch, str(seed))
            try:
                whole = make(seed, precompiled)
                os.makedirs(folder, exist_ok=True)
                with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
                    json.dump(whole, f, ensure_ascii=False)
                tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
            except BaseException as e:  # the reference cannot read such a file, or panics while it learns one
                if isinstance(e, KeyboardInterrupt):
                    raise
                n_refused += 1
                continue
            what = json.dumps({k: whole[k] for k in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}).replace(precompiled, "...")
            try:
                c = Parts(library, folder, a.show)
            except RuntimeError as e:
                n_bad += 1
                print(f"--- tokenizer {seed}: we cannot open it: {e}\n{what[:1500]}", flush=True)
                continue
            for text in range(a.texts):
                c.run(seed * 100 + text)
            c.ours.close()
            n_compared += 1
            if c.n_bad:
                print(f"=== tokenizer {seed} ({whole['model']['type']}): {c.n_bad} differences\n{what[:1500]}", flush=True)
                n_bad += c.n_bad
            if not a.keep:
                shutil.rmtree(folder)
    print(f"{n_compared} tokenizers compared, {n_refused} that the reference refuses, {n_bad} differences")
    return 1 if n_bad or not n_compared else 0


if __name__ == "__main__":
    sys.exit(main())
