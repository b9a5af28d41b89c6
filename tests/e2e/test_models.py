# SPDX-License-Identifier: Apache-2.0
"""Which model a name leads to, what is told of it, and what is said of folders that are broken."""
import json
import os
import shutil
import struct

from support import ASSISTANT, DEFAULT_MODEL, VOCAB, EndToEnd, f32, main, safetensors

LFS_POINTER = ("version https://git-lfs.github.com/spec/v1\n"
               "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 123456\n")


class Naming(EndToEnd):
    def setUp(self):
        super().setUp()
        self.a = self.scripted("model-a", pieces=["this is a"])
        self.b = self.scripted("model-b", pieces=["this is b"])

    def said(self, *args, env=None):
        return self.run_we("run", *args, "hi", env=env).text.strip()

    def test_a_folder_a_name_and_a_url(self):
        self.assertEqual(self.said("--model", self.a), "this is a")
        self.assertEqual(self.said("--model", os.path.relpath(self.a, self.dir)), "this is a")
        self.assertEqual(self.said("--model", "model-b"), "this is b")
        self.assertEqual(self.said("--model", "mlx://model-b"), "this is b")

    def test_which_one_wins(self):
        self.assertEqual(self.said(env={"MLX_MODEL_NAME": "model-b"}), "this is b")
        both = {"LLM_CHAT_API_URL": "mlx://model-a", "MLX_MODEL_NAME": "model-b"}
        self.assertEqual(self.said(env=both), "this is a")
        self.assertEqual(self.said("--model", "model-b", env=both), "this is b")
        self.assertEqual(self.said("--model", "model-b", env={"LLM_CHAT_API_URL": "ollama://x"}), "this is b")

    def test_local_models_dir(self):
        other = os.path.join(self.dir, "elsewhere")
        shutil.copytree(self.a, os.path.join(other, "mlx", "moved"))
        self.assertEqual(self.said("--model", "moved", env={"LOCAL_MODELS_DIR": other}), "this is a")

    def test_other_backends(self):
        nobody = {"OLLAMA_HOST": "127.0.0.1:1", "LMSTUDIO_HOST": "127.0.0.1:1"}
        for url, says in (("lmstudio://x", "LM Studio does not answer"), ("ollama://llama3", "Ollama does not answer"),
                          ("http://127.0.0.1:1/v1#x", "does not answer")):
            self.fails("run", "--model", url, "hi", env=nobody, says=says)
            self.fails("run", "hi", env={**nobody, "LLM_CHAT_API_URL": url}, says=says)
            self.fails("info", "--model", url, env=nobody, says=url.split(":")[0])  # only this process's models have these

    def test_missing(self):
        done = self.fails("run", "--model", "no-such-model", "hi", says="Model path does not exist: ", env={"LOCAL_MODELS_DIR": "./models"})
        self.assertIn("./models/mlx/no-such-model", done.notes, "the message says where it looked")
        self.assertGreater(len(done.notes.strip()), len("whisperengine: Model path does not exist: ./models/mlx/no-such-model") + 10,
                           f"it says what to do next{done}")
        for command in ("info", "tokenize", "chat"):
            self.fails(command, "--model", "no-such-model", says="Model path does not exist: ")
        self.fails("run", "hi", env={"MLX_MODEL_NAME": "no-such-model"}, says=["MLX_MODEL_NAME", "no-such-model"])

    def test_control_characters_in_a_name(self):
        done = self.fails("run", "--model", "bad\x1b[31m\u202ename", "hi", says="\\x1b[31m")
        self.assertNotIn("\x1b", done.notes)
        self.assertNotIn("\u202e", done.notes)


class InfoAndList(EndToEnd):
    def test_info(self):
        model = self.scripted("mine")
        done = self.run_we("info", "mine", "--json")
        i = done.json()
        self.assertEqual((i["name"], i["model_type"], i["vocab_size"], i["layers"]), ("mine", "llama", VOCAB, 1), str(done))
        self.assertEqual(os.path.realpath(i["path"]), os.path.realpath(model))
        self.assertEqual((i["tokenizer"], i["chat_template"]), (True, True))
        self.assertEqual(i["max_position_embeddings"], 4096)
        weights = os.path.getsize(os.path.join(model, "model.safetensors"))
        self.assertLess(abs(i["weights_bytes"] - weights), 65536, str(done))
        self.assertEqual(i["parameters"], weights_parameters())
        self.assertGreater(i["kv_bytes_at_context"], 0)
        text = self.run_we("info", "--model", "mine").text
        for word in ("llama", "context", "memory", "weights", "KV cache", "chat template"):
            self.assertIn(word, text)

    def test_info_counts_the_context_asked_for(self):
        self.scripted("mine")
        kv = lambda *args: self.run_we("info", "mine", "--json", *args).json()["kv_bytes_at_context"]
        self.assertLess(kv("--context", "512"), kv("--context", "4096"))
        self.assertLess(kv("--kv-bits", "8"), kv("--kv-bits", "16"))

    def test_info_without_tokenizer(self):
        self.scripted("bare", tokenizer=False)
        i = self.run_we("info", "bare", "--json").json()
        self.assertEqual((i["tokenizer"], i["chat_template"]), (False, False))

    def test_list(self):
        self.scripted("mine")
        self.scripted("odd\x1b[31mname")
        self.scripted("strange", config={"model_type": "frobnicate"})
        rows = {r["name"]: r for r in self.run_we("list", "--json").json()}
        self.assertIn("mine", rows)
        self.assertNotIn("strange", rows, "what can't run is left out")
        self.assertEqual((rows["mine"]["model_type"], rows["mine"]["runnable"]), ("llama", True))
        self.assertGreater(rows["mine"]["bytes"], 100000)
        everything = {r["name"]: r for r in self.run_we("list", "--all", "--json").json()}
        self.assertEqual((everything["strange"]["model_type"], everything["strange"]["runnable"]), ("frobnicate", False))
        done = self.run_we("list")
        self.assertRegex(done.text, r"(?m)^mine +llama +float32 +[\d.]+ [kMG]?B +models +yes$")
        self.assertIn("odd\\x1b[31mname", done.text)
        self.assertNotIn("\x1b", done.text)
        self.assertIn("--all", done.notes, "what was left out is mentioned")

    def test_the_names_lead_to_their_models(self):
        self.scripted("mine")
        self.scripted("org/mine")
        rows = self.run_we("list", "--json").json()
        self.assertIn("org/mine", [row["name"] for row in rows])
        for row in rows:
            self.assertEqual(self.run_we("info", row["name"], "--json").json()["model_type"], row["model_type"])


def weights_parameters():
    from support import ScriptedModel
    count = 0
    for _, shape, _ in ScriptedModel().tensors().values():
        size = 1
        for n in shape:
            size *= n
        count += size
    return count


class BuiltIn(EndToEnd):
    def setUp(self):
        super().setUp()
        self.assertTrue(os.path.isdir(DEFAULT_MODEL), f"{DEFAULT_MODEL} is part of the repository")

    def test_it_answers(self):
        for args in ([], ["--model", "default"], ["--temperature", "0"]):
            text = self.run_we("run", *args, "--max-tokens", "48", "Hello, who are you?").text
            self.assertTrue(text.strip(), f"an answer has text: {text!r}")

    def test_seeds_repeat(self):
        run = lambda: self.run_we("run", "--temperature", "0.9", "--seed", "3", "--max-tokens", "24", "--json", "Hello").json()["tokens"]
        self.assertEqual(run(), run())

    def test_info(self):
        i = self.run_we("info", "--json").json()
        self.assertEqual((i["name"], i["tokenizer"], i["chat_template"]), ("default", True, True))
        self.assertLessEqual(i["weights_bytes"], 16 << 20)

    def test_its_tokenizer_gives_text_back(self):
        text = "Hello, wörld!\n\t世界 \U0001f680  x\x00y"
        ids = self.run_we("tokenize", "--no-special", stdin=text).out
        self.assertEqual(self.run_we("detokenize", stdin=ids).text, text)


class BadFolders(EndToEnd):
    """Each fails with status 1 and a message that names what is wrong, in `run` as in `generate`."""

    def setUp(self):
        super().setUp()
        self.model = self.scripted("broken")

    def path(self, name):
        return os.path.join(self.model, name)

    def put(self, name, content):
        with open(self.path(name), "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)

    def weights(self):
        with open(self.path("model.safetensors"), "rb") as f:
            return f.read()

    def change_config(self, **changes):
        with open(self.path("config.json")) as f:
            config = json.load(f)
        for key, value in changes.items():
            config.pop(key, None) if value is None else config.__setitem__(key, value)
        self.put("config.json", json.dumps(config))

    def refused(self, says, *more):
        self.fails("generate", "-m", self.model, "--prompt-tokens", ASSISTANT, *more, says=says)

    def test_an_empty_folder(self):
        os.makedirs(os.path.join(self.models, "mlx", "empty"))
        self.fails("run", "-m", "empty", "hi", says="config.json")

    def test_no_weights(self):
        os.remove(self.path("model.safetensors"))
        self.refused(says="safetensors")

    def test_truncated_weights(self):
        whole = self.weights()
        for n in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
            self.put("model.safetensors", whole[:n])
            self.refused(says="model.safetensors")

    def test_lying_headers(self):
        whole = self.weights()
        n = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + n])

        def with_header(change):
            h = json.loads(json.dumps(header))
            change(h)
            text = json.dumps(h).encode()
            self.put("model.safetensors", struct.pack("<Q", len(text)) + text + whole[8 + n:])

        name = "model.norm.weight"
        begin, end = header[name]["data_offsets"]
        cases = [
            lambda h: h[name].update(data_offsets=[begin, end + (1 << 40)]),
            lambda h: h[name].update(data_offsets=[end, begin]),
            lambda h: h[name].update(data_offsets=[begin - 4, end - 4]),
            lambda h: h[name].update(shape=[321]),
            lambda h: h[name].update(shape=[-1]),
            lambda h: h[name].update(shape=[1 << 40, 1 << 40]),
            lambda h: h[name].update(dtype="Q9"),
            lambda h: h[name].pop("shape"),
        ]
        for change in cases:
            with_header(change)
            self.refused(says="model.norm.weight")
        for size in (1 << 62, len(whole), 3):
            self.put("model.safetensors", struct.pack("<Q", size) + whole[8:])
            self.refused(says="model.safetensors")
        self.put("model.safetensors", struct.pack("<Q", n) + b"{" * n + whole[8 + n:])
        self.refused(says="model.safetensors")

    def test_a_missing_tensor_and_a_wrong_shape(self):
        from support import ScriptedModel
        tensors = ScriptedModel().tensors()
        missing = {k: v for k, v in tensors.items() if not k.endswith("q_proj.weight")}
        self.put("model.safetensors", safetensors(missing))
        self.refused(says="q_proj")
        tensors["model.norm.weight"] = ("F32", (7,), f32([1.0] * 7))
        self.put("model.safetensors", safetensors(tensors))
        self.refused(says=["model.norm.weight", "7"])

    def test_git_lfs_pointers(self):
        whole = self.weights()
        self.put("model.safetensors", LFS_POINTER)
        self.refused(says=["model.safetensors", "git lfs pull"])
        self.put("model.safetensors", whole)
        self.put("tokenizer.json", LFS_POINTER)
        self.fails("run", "-m", self.model, "hi", says=["tokenizer.json", "git lfs pull"])
        self.fails("tokenize", "-m", self.model, stdin="x", says=["tokenizer.json", "git lfs pull"])

    def test_config(self):
        for content in ("", "[]", "{", "null", '{"model_type": 3}', "{}"):
            self.put("config.json", content)
            self.refused(says="config.json")

    def test_config_without_needed_keys(self):
        with open(self.path("config.json")) as f:
            config = json.load(f)
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
            self.put("config.json", json.dumps({k: v for k, v in config.items() if k != key}))
            self.refused(says=["config.json", key])

    def test_config_with_senseless_values(self):
        for key, value in (("hidden_size", -1), ("hidden_size", "big"), ("num_hidden_layers", 0), ("num_hidden_layers", 1 << 40),
                           ("num_attention_heads", 0), ("head_dim", 1.5), ("vocab_size", 0), ("num_key_value_heads", 3)):
            with self.subTest(key=key, value=value):
                with open(self.path("config.json")) as f:
                    before = f.read()
                self.change_config(**{key: value})
                self.refused(says="")
                self.put("config.json", before)

    def test_unknown_architecture(self):
        self.change_config(model_type="frobnicate")
        self.refused(says=["frobnicate", "llama"])

    def test_unknown_quantization(self):
        self.change_config(quantization={"group_size": 64, "bits": 7})
        self.refused(says=["7"])
        self.change_config(quantization={"group_size": 64, "bits": 4, "mode": "frobnicate"})
        self.refused(says=["frobnicate"])

    def test_wrong_vocabulary_size(self):
        self.change_config(vocab_size=VOCAB + 1)
        self.refused(says=[str(VOCAB), str(VOCAB + 1)])

    def test_a_tokenizer_that_does_not_fit(self):
        with open(self.path("tokenizer.json")) as f:
            tokenizer = json.load(f)
        tokenizer["model"]["vocab"]["farout"] = VOCAB + 1000
        self.put("tokenizer.json", json.dumps(tokenizer))
        self.fails("run", "-m", self.model, "hi", says=["does not fit", "farout", str(VOCAB + 1000), f"vocab_size is {VOCAB}"])

    def test_broken_tokenizers(self):
        for content in ("", "{", "[]", '{"model": {"type": "Frobnicate"}}'):
            self.put("tokenizer.json", content)
            self.fails("tokenize", "-m", self.model, stdin="x", says="tokenizer.json")
            self.fails("run", "-m", self.model, "hi", says="tokenizer.json")

    def test_broken_templates(self):
        model = self.scripted("no-template", template="{% if %}")
        self.fails("run", "-m", model, "hi", says="")
        model = self.scripted("raises", template="{{ raise_exception('roles must alternate') }}")
        self.fails("run", "-m", model, "hi", says="roles must alternate")

    def test_no_tokenizer(self):
        self.fails("chat", "-m", self.scripted("bare", tokenizer=False), stdin="hi\n", says=["tokenizer", "generate"])

    def test_a_context_beyond_the_model(self):
        self.refused("4096", "--context", "1000000")

    def test_not_enough_memory(self):
        most = 1 << 30  # of 1280 bytes each: more than a terabyte
        self.model = self.scripted("large", context=most, config={"num_key_value_heads": 10})
        self.refused(["Out of memory during model loading", "GB"], "--context", most)

    def test_sharded_index(self):
        whole = self.weights()
        os.rename(self.path("model.safetensors"), self.path("model-00001-of-00001.safetensors"))
        n = struct.unpack("<Q", whole[:8])[0]
        names = list(json.loads(whole[8:8 + n]))
        index = {"metadata": {}, "weight_map": {k: "model-00001-of-00001.safetensors" for k in names}}
        self.put("model.safetensors.index.json", json.dumps(index))
        self.run_we("generate", "-m", self.model, "--prompt-tokens", ASSISTANT, "--output-tokens")
        index["weight_map"][names[0]] = "model-00002-of-00001.safetensors"
        self.put("model.safetensors.index.json", json.dumps(index))
        self.refused(says="model-00002-of-00001.safetensors")
        for content in ("{", '{"weight_map": 1}', '{"weight_map": {"a": "../../../etc/passwd"}}'):
            self.put("model.safetensors.index.json", content)
            self.refused(says="")

    def test_a_broken_npz(self):
        os.remove(self.path("model.safetensors"))
        for content in (b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), os.urandom(1000)):
            self.put("weights.npz", content)
            self.refused(says="weights.npz")


if __name__ == "__main__":
    main()
