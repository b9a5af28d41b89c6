# SPDX-License-Identifier: Apache-2.0
"""GGUF files in place and imported: each architecture's logits are those of the MLX folder with the same weights, and what is wrong with a
file is told by its name, key and value."""
import hashlib
import json
import os
import shutil
import struct

import ggufs
from ggufs import F32, I32, STRING, U32, Gguf
from support import SOURCE_DIR, TEMPLATE, EndToEnd, ScriptedModel, main

FIXTURES = os.path.join(SOURCE_DIR, "tests", "fixtures", "logits")
TOKENS = [1, 5, 9, 200, 3, 3, 77, 41, 12, 250, 8, 100]


def read_npy(path):
    with open(path, "rb") as f:
        content = f.read()
    length, = struct.unpack_from("<H", content, 8)
    data = content[10 + length:]
    return struct.unpack(f"<{len(data) // 4}f", data)


def read_header(path):
    """{name: (dtype, shape)} of a safetensors file."""
    with open(path, "rb") as f:
        length, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
    return {k: (t["dtype"], t["shape"]) for k, t in header.items() if k != "__metadata__"}


class Ggufs(EndToEnd):
    def logits(self, model, tokens=TOKENS, *args):
        path = os.path.join(self.dir, "logits.npy")
        self.run_we("logits", "--model", model, "--tokens", ",".join(map(str, tokens)), "--output", path, *args)
        return read_npy(path)

    def close(self, got, want, relative, what):
        """Differences against the logits' own spread."""
        self.assertEqual(len(got), len(want))
        mean = sum(want) / len(want)
        deviation = (sum((x - mean) ** 2 for x in want) / len(want)) ** 0.5
        worst = max(abs(a - b) for a, b in zip(got, want))
        self.assertLess(worst, relative * deviation, f"{what}: {worst / deviation:.2g} of the standard deviation")

    def save(self, gguf, name="m.gguf"):
        return gguf.save(os.path.join(self.dir, name))


class InPlace(Ggufs):
    def same_as_folder(self, folder, gguf, tokens=TOKENS):
        want = self.logits(folder, tokens, "--precise")
        path = self.save(gguf)
        self.close(self.logits(path, tokens, "--precise"), want, 1e-4, "precise")

    def test_architectures(self):
        for case in ("llama_f32", "llama_bias_f16_sharded", "llama_tied_bf16", "qwen2_bf16", "qwen3_f32",
                     "phi3_longrope_bf16", "gemma3_text_bf16"):
            with self.subTest(case):
                folder = os.path.join(FIXTURES, case)
                self.same_as_folder(folder, ggufs.from_folder(folder))

    def rope_folder(self, changes):
        folder = os.path.join(self.dir, "rope")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(os.path.join(FIXTURES, "llama_f32"), folder)
        path = os.path.join(folder, "config.json")
        with open(path, encoding="utf-8") as f:
            config = {**json.load(f), **changes}
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        return folder

    def test_rotary_scaling(self):
        for scaling in ({"rope_type": "linear", "factor": 4.0},
                        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}):
            with self.subTest(scaling["rope_type"]):
                folder = self.rope_folder({"rope_scaling": scaling})
                self.same_as_folder(folder, ggufs.from_folder(folder))
        factors = [1.0, 1.0, 1.5, 2.0, 3.0, 7.0, 8.0, 8.0]  # of no published setting
        folder = self.rope_folder({"rope_scaling": {"type": "longrope", "long_factor": factors, "short_factor": factors},
                                   "original_max_position_embeddings": 2048})
        gguf = ggufs.from_folder(os.path.join(FIXTURES, "llama_f32"))
        gguf.add("rope_freqs.weight", [8], "F32", struct.pack("<8f", *factors))
        with self.subTest("divisors"):
            self.same_as_folder(folder, gguf)

    def test_llama3_scaling(self):
        """Settings that config.json can name are recognised by their numbers."""
        base, dims, factor = 500000.0, 16, 8.0
        factors = []
        for i in range(dims // 2):
            wavelength = 2 * 3.141592653589793 * base ** (2 * i / dims)
            smooth = (8192 / wavelength - 1) / 3
            factors.append(1.0 if wavelength < 2048 else factor if wavelength > 8192
                           else 1 / ((1 - smooth) / factor + smooth))
        folder = self.rope_folder({"rope_theta": base, "rope_scaling": {
            "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}})
        gguf = ggufs.from_folder(os.path.join(FIXTURES, "llama_f32"))
        gguf.set("llama.rope.freq_base", F32, base)
        gguf.add("rope_freqs.weight", [8], "F32", struct.pack("<8f", *factors))
        self.same_as_folder(folder, gguf)

    def test_blocks_on_the_fast_path(self):
        for kind in ggufs.SCALES:
            with self.subTest(kind):
                path = self.save(ggufs.random_model(kind))
                tokens = [1, 2, 3, 63, 7, 7, 30, 21] * 2
                want = self.logits(path, tokens, "--precise")
                self.close(self.logits(path, tokens), want, 0.17, "int8 activations")
                self.close(self.logits(path, tokens, "--kernels", "reference", "--precise"), want, 1e-4, "reference")

    def test_info(self):
        path = self.save(ggufs.random_model("Q4_K"))
        info = self.run_we("info", path, "--json").json()
        self.assertEqual(info["model_type"], "llama")
        self.assertEqual(info["quantization"], "Q4_K")
        self.assertEqual(info["layers"], 2)
        self.assertFalse(info["tokenizer"])
        self.run_we("info", "--model", path)


class InTheModelsFolder(Ggufs):
    def test_names(self):
        model = ggufs.random_model("Q4_K")
        os.makedirs(os.path.join(self.models, "mlx", "org"))
        places = {"top.gguf": "top.gguf", "below.gguf": "mlx/below.gguf", "org/deep.gguf": "mlx/org/deep.gguf",
                  "parts-00001-of-00002.gguf": "parts-00001-of-00002.gguf"}
        for place in [*places.values(), "parts-00002-of-00002.gguf", "mmproj-top.gguf", "mlx/.hidden.gguf"]:
            model.save(os.path.join(self.models, place))
        rows = {r["name"]: r for r in self.run_we("list", "--all", "--json").json() if r["source"] == "models"}
        self.assertEqual({name: os.path.relpath(r["path"], self.models) for name, r in rows.items()}, places)
        for name in ("top.gguf", "top", "below", "org/deep", "org/deep.gguf", "mlx://top"):
            self.assertEqual(self.run_we("info", name, "--json").json()["quantization"], "Q4_K", name)
        self.fails("info", "tops.gguf", says=["Model path does not exist", "top.gguf"])

    def test_removing(self):
        path = ggufs.random_model("Q4_K").save(os.path.join(self.models, "top.gguf"))
        part = ggufs.random_model("Q4_K").save(os.path.join(self.models, "parts-00001-of-00002.gguf"))
        self.write("models/mlx/notes", "mine")
        self.fails("rm", "top", says=[path, "1 file", "--yes"])
        self.run_we("rm", "top", "--yes")
        self.assertFalse(os.path.exists(path))
        self.fails("rm", "parts-00001-of-00002", "--yes", says=["one of several files", "nothing was removed"])
        self.fails("rm", "notes", "--yes", says="does not exist")
        self.assertTrue(os.path.exists(part))


class Imported(Ggufs):
    def load(self, *args, gguf="m.gguf", **kw):
        """Import, and give the new folder."""
        target = os.path.join(self.dir, "imported")
        shutil.rmtree(target, ignore_errors=True)
        self.run_we("convert", "--gguf", os.path.join(self.dir, gguf), "--mlx-path", target, *args, **kw)
        return target

    def config(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            return json.load(f)

    def tensors(self, folder):
        return {k: t[0] for k, t in read_header(os.path.join(folder, "model.safetensors")).items()}

    def test_architectures(self):
        for case in ("llama_f32", "llama_bias_f16_sharded", "llama_tied_bf16", "qwen2_bf16", "qwen3_f32",
                     "phi3_longrope_bf16", "gemma3_text_bf16"):
            with self.subTest(case):
                folder = os.path.join(FIXTURES, case)
                self.save(ggufs.from_folder(folder))
                want = self.logits(folder, TOKENS, "--precise")
                self.close(self.logits(self.load("--dtype", "float32"), TOKENS, "--precise"), want, 1e-5, "imported")

    def test_blocks(self):
        tokens = [1, 2, 3, 63, 7, 7, 30, 21]
        for kind in ggufs.TYPES:
            with self.subTest(kind):
                path = self.save(ggufs.random_model(kind))
                want = self.logits(path, tokens, "--precise")
                got = self.logits(self.load("--dtype", "float32"), tokens, "--precise")
                self.close(got, want, 1e-4, "imported as float32")

    def test_types(self):
        self.save(ggufs.random_model("Q4_K"))
        folder = self.load()
        self.assertEqual(self.config(folder)["torch_dtype"], "bfloat16")
        self.assertEqual(set(self.tensors(folder).values()), {"BF16"})
        folder = self.load("-q", "--q-bits", "8")
        self.assertEqual(self.config(folder)["quantization"], {"group_size": 64, "bits": 8, "mode": "affine"})
        self.assertEqual(self.tensors(folder)["model.layers.0.self_attn.q_proj.weight"], "U32")

    def test_lossless(self):
        tokens = [1, 2, 3, 63, 7, 7, 30, 21]
        for kind, bits in (("Q4_0", 4), ("Q4_1", 4), ("Q8_0", 8)):
            with self.subTest(kind):
                path = self.save(ggufs.random_model(kind))
                folder = self.load("--lossless")
                config = self.config(folder)
                self.assertEqual(config["torch_dtype"], "float16")
                self.assertEqual(config["quantization"], {"group_size": 32, "bits": bits, "mode": "affine"})
                self.assertEqual(set(self.tensors(folder).values()), {"U32", "F16"})
                want = self.logits(path, tokens, "--precise")
                self.close(self.logits(folder, tokens, "--precise"), want, 1e-4, "lossless")

    def test_lossless_mixtures(self):
        gguf = ggufs.random_model("Q4_0")
        other = {t[0]: t for t in ggufs.random_model("Q8_0").tensors}
        third = {t[0]: t for t in ggufs.random_model("Q6_K").tensors}
        gguf.tensors = [other[t[0]] if "attn_v" in t[0] else third[t[0]] if t[0] == "token_embd.weight" else t
                        for t in gguf.tensors]
        path = self.save(gguf)
        done = self.run_we("convert", "--gguf", path, "--mlx-path", os.path.join(self.dir, "mixed"), "--lossless")
        self.assertIn("Q6_K) have no lossless form", done.notes)
        config = self.config(os.path.join(self.dir, "mixed"))
        self.assertEqual(config["quantization"]["model.layers.1.self_attn.v_proj"], {"group_size": 32, "bits": 8})
        tokens = [1, 2, 3, 63, 7]
        self.close(self.logits(os.path.join(self.dir, "mixed"), tokens, "--precise"),
                   self.logits(path, tokens, "--precise"), 5e-3, "the embeddings are rounded")

    def test_refusals(self):
        target = os.path.join(self.dir, "out")
        gemma = self.save(ggufs.from_folder(os.path.join(FIXTURES, "gemma3_text_bf16")))
        self.fails("convert", "--gguf", gemma, "--mlx-path", target, "--lossless", says=["exceed float16", "--lossless"])
        self.usage("convert", "--gguf", gemma, "--mlx-path", target, "--lossless", "-q", says="leave --quantize out")
        self.usage("convert", "--hf-path", gemma, "--mlx-path", target, "--lossless", says="only with --gguf")
        self.usage("convert", "--hf-path", gemma, "--gguf", gemma, says="exclude each other")
        self.usage("convert", "--mlx-path", target, says="--hf-path is needed")
        self.fails("convert", "--gguf", self.write("bad.gguf", b"GGUF"), "--mlx-path", target, says="bad.gguf")
        self.fails("convert", "--gguf", os.path.join(self.dir, "no.gguf"), "--mlx-path", target, says="no.gguf")
        gguf = ggufs.random_model("Q4_0")
        gguf.tensors = [t if "attn_q" not in t[0] else (t[0], [256, 190], t[2], t[3]) for t in gguf.tensors]
        self.fails("convert", "--gguf", self.save(gguf), "--mlx-path", target, says="blk.0.attn_q.weight is [190, 256]")
        self.assertFalse(os.path.exists(target))


class Tokenizers(Ggufs):
    def fixture(self, name):
        folder = os.path.join(SOURCE_DIR, "tests", "fixtures", "tokenizers", "tiny", name)
        out = []
        for file in ("tokenizer.json", "tokenizer_config.json", "vectors.json"):
            with open(os.path.join(folder, file), encoding="utf-8") as f:
                out.append(json.load(f))
        return out

    def test_ids(self):
        """The ids that the reference gives for the tokenizer.json itself, in place and imported."""
        for name, pre in (("bpe-llama3", "llama-bpe"), ("bpe-qwen", "qwen2"), ("spm-gemma", None), ("spm-legacy", None)):
            t, config, vectors = self.fixture(name)
            plain = {a["content"] for a in t["added_tokens"] if a["lstrip"] or a["rstrip"] or a["normalized"] or a["single_word"]}
            gguf = ggufs.tokenizer(ggufs.random_model("Q4_0", layers=1), t, config, pre)
            gguf.set("tokenizer.ggml.add_bos_token", ggufs.BOOL, vectors["cases"][0]["ids_special"] != [])
            gguf.set("tokenizer.ggml.add_space_prefix", ggufs.BOOL, name == "spm-legacy")
            path = self.save(gguf)
            folder = os.path.join(self.dir, name)
            self.run_we("convert", "--gguf", path, "--mlx-path", folder)
            if name == "spm-gemma":  # this one's runs of spaces are no pieces, which SentencePiece does not have
                plain |= {"  ", "\u2581"}
            cases = [c for c in vectors["cases"] if not any(a in c["text"] for a in plain)]
            self.assertGreater(len(cases), 40)
            lines = "".join(json.dumps({"text": c["text"], "special": True}) + "\n" for c in cases)
            ids = "".join(json.dumps({"ids": c["ids_special"], "skip_special": False}) + "\n" for c in cases)
            for model in (path, folder):
                got = self.run_we("tokenize", "--model", model, "--jsonl", stdin=lines).text.split("\n")
                texts = self.run_we("detokenize", "--model", model, "--jsonl", stdin=ids).text.split("\n")
                for c, line, text in zip(cases, got, texts):
                    with self.subTest(name, model=os.path.basename(model), text=c["text"]):
                        self.assertEqual(json.loads(line), c["ids_special"])
                        self.assertEqual(json.loads(text), c["decoded_special"])

    def scripted_gguf(self, **kw):
        model = ScriptedModel(pieces=["this", " is", " it"], **kw)
        folder = model.save(os.path.join(self.dir, "scripted"))
        return ggufs.tokenizer(ggufs.from_folder(folder), model.tokenizer_json(), {"eos_token": "<|end|>"}, "gpt-2")

    def test_chat(self):
        """A template in the metadata; the answer ends where the metadata says so."""
        gguf = self.scripted_gguf()
        gguf.set("tokenizer.chat_template", STRING, TEMPLATE)
        path = self.save(gguf)
        self.assertEqual(self.run_we("run", "--model", path, "hi").text.strip(), "this is it")
        self.run_we("convert", "--gguf", path, "--mlx-path", os.path.join(self.dir, "out"))
        self.assertEqual(self.run_we("run", "--model", os.path.join(self.dir, "out"), "hi").text.strip(), "this is it")

    def test_named_templates_and_end_of_turn(self):
        gguf = self.scripted_gguf()
        gguf.remove("tokenizer.ggml.eos_token_id")
        gguf.set("tokenizer.ggml.eos_token_id", U32, 0)
        gguf.set("tokenizer.ggml.eot_token_id", U32, 256)  # <|end|>
        gguf.set("tokenizer.chat_template", STRING, TEMPLATE)
        gguf.set("tokenizer.chat_templates", STRING, ["default", "tool_use"])
        gguf.set("tokenizer.chat_template.tool_use", STRING, "TOOLS")
        path = self.save(gguf)
        folder = os.path.join(self.dir, "out")
        self.run_we("convert", "--gguf", path, "--mlx-path", folder)
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as f:
            self.assertEqual([t["name"] for t in json.load(f)["chat_template"]], ["default", "tool_use"])
        with open(os.path.join(folder, "generation_config.json"), encoding="utf-8") as f:
            self.assertEqual(json.load(f)["eos_token_id"], [0, 256])
        for model in (path, folder):
            self.assertEqual(self.run_we("run", "--model", model, "hi").text.strip(), "this is it")

    def test_broken(self):
        for key, kind, value, says in (
                ("tokenizer.ggml.model", STRING, "bert", ['tokenizer.ggml.model is "bert"']),
                ("tokenizer.ggml.tokens", STRING, "x", ['tokenizer.ggml.tokens is "x"']),
                ("tokenizer.ggml.tokens", STRING, [b"\xff"] * 263, ["tokens[0] is not UTF-8"]),
                ("tokenizer.ggml.token_type", I32, [1, 2], ["token_type is an array of 2 int32"]),
                ("tokenizer.ggml.merges", STRING, "x", ['merges is "x"']),
                ("tokenizer.ggml.merges", STRING, ["nospace"], ["merges"]),
                ("tokenizer.ggml.eos_token_id", U32, 5000, ["eos_token_id is 5000"]),
                ("tokenizer.ggml.add_bos_token", U32, 1, ["add_bos_token is 1"])):
            with self.subTest(key=key, value=str(value)[:20]):
                gguf = self.scripted_gguf()
                gguf.set(key, kind, value)
                self.fails("tokenize", "--model", self.save(gguf), stdin="hi", says=says)
        gguf = self.scripted_gguf()
        gguf.set("tokenizer.ggml.model", STRING, "llama")
        self.fails("tokenize", "--model", self.save(gguf), stdin="hi", says="tokenizer.ggml.scores is missing")

    def test_unknown_pre_tokenizer(self):
        gguf = self.scripted_gguf()
        gguf.set("tokenizer.ggml.pre", STRING, "nonesuch")
        done = self.run_we("tokenize", "--model", self.save(gguf), stdin="hi")
        self.assertIn("tokenizer.ggml.pre is nonesuch", done.notes)
        self.assertEqual(done.json(), [104, 105])


class Foreign(Ggufs):
    """What LM Studio and Ollama have downloaded, in folders laid out as theirs."""

    def put(self, path, gguf):
        path = os.path.join(self.home, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return gguf.save(path)

    def ollama(self, name, gguf, root=".ollama/models", layers=None):
        digest = "%064x" % abs(hash(name))
        path = self.put(f"{root}/blobs/sha256-{digest}", gguf)
        self.write(f"home/{root}/manifests/{name}", json.dumps({"schemaVersion": 2, "layers": layers or [
            {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64},
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + digest, "size": 1}]}))
        return path

    def listed(self, *args, **kw):
        return {m["name"]: m for m in self.run_we("list", "--json", *args, **kw).json()}

    def path_of(self, name, **kw):
        return os.path.realpath(self.run_we("info", name, "--json", **kw).json()["path"])

    def test_lm_studio(self):
        tiny = ggufs.random_model("Q4_0", layers=1)
        a = self.put(".lmstudio/models/pub/repo-GGUF/m-Q4_0.gguf", tiny)
        b = self.put(".lmstudio/models/pub/repo-GGUF/m-Q8_0.gguf", ggufs.random_model("Q8_0", layers=1))
        self.put(".lmstudio/models/pub/repo-GGUF/mmproj-model.gguf", Gguf("clip"))
        self.put(".lmstudio/models/pub/big/b-00002-of-00003.gguf", Gguf("llama"))
        old = self.put(".cache/lm-studio/models/other/x/old.gguf", ggufs.random_model("Q4_1", layers=1))
        self.put(".lmstudio/models/pub/odd/odd.gguf", Gguf("mamba"))
        ScriptedModel().save(os.path.join(self.home, ".lmstudio/models/mlx-community/tiny-4bit"))
        found = self.listed()
        self.assertEqual({n for n in found if found[n]["source"] == "lm studio"},
                         {"pub/repo-GGUF/m-Q4_0.gguf", "pub/repo-GGUF/m-Q8_0.gguf", "other/x/old.gguf",
                          "mlx-community/tiny-4bit"})
        self.assertEqual(found["pub/repo-GGUF/m-Q4_0.gguf"]["model_type"], "llama")
        self.assertEqual(found["pub/repo-GGUF/m-Q4_0.gguf"]["bytes"], os.path.getsize(a))
        self.assertFalse(self.listed("--all")["pub/odd/odd.gguf"]["runnable"])
        for name, path in (("pub/repo-GGUF/m-Q8_0.gguf", b), ("m-Q8_0", b), ("repo-GGUF", a), ("pub/repo-GGUF", a),
                           ("old.gguf", old)):
            self.assertEqual(self.path_of(name), os.path.realpath(path), name)
        self.fails("info", "Q8_0.gguf", says="does not exist")
        self.assertEqual(self.run_we("run", "--model", "tiny-4bit", "hi").text.strip(), "Hello, world!")
        self.run_we("convert", "--gguf", "m-Q8_0", "--mlx-path", os.path.join(self.dir, "out"))

    def test_ollama(self):
        tiny = ggufs.random_model("Q4_0", layers=1)
        a = self.ollama("registry.ollama.ai/library/llama3.2/latest", tiny)
        b = self.ollama("registry.ollama.ai/library/llama3.2/1b", tiny)
        c = self.ollama("registry.ollama.ai/someone/theirs/v2", tiny)
        d = self.ollama("hf.co/org/repo-GGUF/Q4_0", tiny)
        self.assertEqual({n for n, m in self.listed().items() if m["source"] == "ollama"},
                         {"llama3.2:latest", "llama3.2:1b", "someone/theirs:v2", "hf.co/org/repo-GGUF:Q4_0"})
        for name, path in (("llama3.2", a), ("llama3.2:latest", a), ("llama3.2:1b", b), ("someone/theirs:v2", c),
                           ("hf.co/org/repo-GGUF:Q4_0", d)):
            self.assertEqual(self.path_of(name), os.path.realpath(path), name)
        for name in ("llama3", "llama3.2:7b", "someone/theirs"):
            self.fails("info", name, says="does not exist")
        e = self.ollama("registry.ollama.ai/library/moved/latest", tiny, root="elsewhere")
        where = {"OLLAMA_MODELS": os.path.join(self.home, "elsewhere")}
        self.assertEqual(self.path_of("moved", env=where), os.path.realpath(e))
        self.fails("info", "llama3.2", says="does not exist", env=where)

    def test_verify_and_rm(self):
        """A blob's name is its hash; what is another program's is not removed."""
        content = ggufs.random_model("Q4_0", layers=1).bytes()
        digest = hashlib.sha256(content).hexdigest()
        blob = self.write(f"home/.ollama/models/blobs/sha256-{digest}", content)
        self.write("home/.ollama/models/manifests/registry.ollama.ai/library/mine/latest", json.dumps({"layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + digest}]}))
        self.run_we("verify", "mine")
        self.fails("rm", "mine", "--yes", says="nothing was removed")
        with open(blob, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"!")
        self.assertEqual(self.run_we("verify", "mine", status=1).status, 1)
        self.assertTrue(os.path.exists(blob))

    def test_broken_manifests(self):
        tiny = ggufs.random_model("Q4_0", layers=1)
        good = self.ollama("registry.ollama.ai/library/good/latest", tiny)
        kind = "application/vnd.ollama.image.model"
        for i, layers in enumerate((
                [{"mediaType": kind, "digest": "sha256:" + "../" * 21 + "x"}], [{"mediaType": kind, "digest": "sha256:12"}],
                [{"mediaType": kind, "digest": 5}], [{"mediaType": kind, "digest": "sha256:" + "f" * 64}], "no", [1])):
            self.ollama(f"registry.ollama.ai/library/bad{i}/latest", tiny, layers=layers)
        self.write("home/.ollama/models/manifests/registry.ollama.ai/library/text/latest", "not JSON")
        self.write("home/.ollama/models/manifests/registry.ollama.ai/stray", "x")
        self.assertEqual({n for n, m in self.listed("--all").items() if m["source"] == "ollama"}, {"good:latest"})
        self.assertEqual(self.path_of("good"), os.path.realpath(good))


class Broken(Ggufs):
    def refused(self, gguf, *says, status=1):
        path = self.save(gguf) if isinstance(gguf, Gguf) else self.write("m.gguf", gguf)
        self.fails("logits", "--model", path, "--tokens", "1", "--output", os.path.join(self.dir, "x.npy"),
                   says=("m.gguf",) + says, status=status)

    def test_files(self):
        good = ggufs.random_model("Q4_0")
        data = good.bytes()
        self.refused(data[:-1000], "tensor", "but the file holds")
        self.refused(data[:300], "m.gguf")
        self.refused(b"GGML" + data[4:], "not a GGUF file")
        self.refused(data[:4] + struct.pack(">I", 3) + data[8:], "big-endian")
        self.refused(data[:8] + struct.pack("<QQ", 1 << 60, 5) + data[24:], "tensors, which")
        self.refused(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")
        self.refused(b"", "is empty")

    def test_metadata(self):
        for key, kind, value, says in (
                ("general.architecture", STRING, "mamba", ['general.architecture is "mamba"', "it runs llama"]),
                ("general.architecture", U32, 7, ["general.architecture is 7"]),
                ("llama.block_count", STRING, "two", ['llama.block_count is "two"', "expected a whole number"]),
                ("llama.block_count", U32, 0, ["llama.block_count is 0"]),
                ("llama.block_count", U32, 3, ["has no tensor blk.2.attn_norm.weight"]),
                ("llama.embedding_length", U32, 512, ["blk.0.attn_norm.weight is F32 [256]", "metadata makes it"]),
                ("llama.attention.head_count", U32, 3, ["not a multiple"]),
                ("llama.attention.head_count_kv", I32, [2, 1], ["head_count_kv differs from layer to layer"]),
                ("llama.attention.value_length", U32, 32, ["value_length is 32"]),
                ("llama.attention.layer_norm_rms_epsilon", F32, -1.0, ["rms_epsilon is -1", "expected a number above 0"]),
                ("llama.rope.scaling.type", STRING, "spiral", ['rope.scaling.type is "spiral"']),
                ("llama.rope.dimension_count", U32, 65, ["dimension_count is 65"]),
                ("llama.expert_count", U32, 8, ["expert_count is 8"]),
                ("general.alignment", U32, 7, ["general.alignment is 7"])):
            with self.subTest(key=key, value=value):
                gguf = ggufs.random_model("Q4_0")
                gguf.set(key, kind, value)
                self.refused(gguf, *says)

    def test_missing(self):
        for key in ("general.architecture", "llama.block_count", "llama.embedding_length", "llama.context_length",
                    "llama.attention.layer_norm_rms_epsilon"):
            with self.subTest(key):
                gguf = ggufs.random_model("Q4_0")
                gguf.remove(key)
                self.refused(gguf, f"{key} is missing")

    def test_tensors(self):
        gguf = ggufs.random_model("Q4_0")
        gguf.tensors = [t for t in gguf.tensors if t[0] != "blk.1.ffn_up.weight"]
        self.refused(gguf, "has no tensor blk.1.ffn_up.weight")
        gguf = ggufs.random_model("Q4_0")
        gguf.tensors = [t if t[0] != "blk.1.ffn_up.weight" else (t[0], t[1], 16, t[3]) for t in gguf.tensors]
        self.refused(gguf, "blk.1.ffn_up.weight", "IQ2_XXS")
        gguf = ggufs.random_model("Q4_0")
        gguf.add("rope_freqs.weight", [3], "F32", b"\0" * 12)
        self.refused(gguf, "rope_freqs.weight is F32 [3], expected F32 [32]")

    def test_names_that_are_no_models(self):
        path = self.write("notes.txt", "hello")
        self.fails("info", path, says=["notes.txt is a file", "a GGUF file"])
        self.fails("info", os.path.join(self.dir, "none.gguf"), says="does not exist")


if __name__ == "__main__":
    main()
