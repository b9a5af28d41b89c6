# SPDX-License-Identifier: Apache-2.0
"""Converting models: what the folder holds, that it runs, and that every failure leaves the earlier state. (That the
weights are mlx-lm's bit for bit is tests/conformance/convert_live.py's to hold.)"""
import collections
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import types
import unittest
import zipfile

from support import PROGRAM, TIMEOUT_S, EndToEnd, ScriptedModel, f32, main, safetensors


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    with open(path, "rb") as f:
        content = f.read()
    length, = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8:8 + length]), content[8 + length:]
    assert header.pop("__metadata__") == {"format": "mlx"}
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items()}


class Converting(EndToEnd):
    def setUp(self):
        super().setUp()
        self.source = self.scripted("source", pieces=["this is it"])
        self.target = os.path.join(self.dir, "out")

    def convert(self, *args, source=None, target=None, **kw):
        return self.run_we("convert", "--hf-path", source or self.source, "--mlx-path", target or self.target, *args, **kw)

    def said(self, folder):
        return self.run_we("run", "--model", folder, "hi").text.strip()

    def load(self, name):
        with open(os.path.join(self.target, name), encoding="utf-8") as f:
            return json.load(f)

    def test_a_copy(self):
        self.convert()
        self.assertEqual(sorted(os.listdir(self.target)),
                         ["README.md", "config.json", "model.safetensors", "model.safetensors.index.json",
                          "tokenizer.json", "tokenizer_config.json"])
        got = read_safetensors(os.path.join(self.target, "model.safetensors"))
        self.assertEqual(got["lm_head.weight"][0], "F32")
        index = self.load("model.safetensors.index.json")
        self.assertEqual(index["metadata"]["total_size"], sum(len(t[2]) for t in got.values()))
        self.assertEqual(index["weight_map"], {name: "model.safetensors" for name in got})
        self.assertNotIn("quantization", self.load("config.json"))
        self.assertEqual(self.said(self.target), "this is it")

    def test_quantized(self):
        done = self.convert("-q", "--json")
        self.assertEqual(done.json()["quantized"], 8)
        got = read_safetensors(os.path.join(self.target, "model.safetensors"))
        self.assertEqual(got["lm_head.weight"][:2], ("U32", [320, 40]))
        self.assertEqual(got["lm_head.scales"][:2], ("F32", [320, 5]))
        self.assertEqual(got["model.layers.0.mlp.down_proj.weight"][:2], ("F32", [320, 32]), "32 is no group of 64")
        config = self.load("config.json")
        self.assertEqual(config["quantization"], {"group_size": 64, "bits": 4, "mode": "affine"})
        self.assertEqual(config["quantization_config"], config["quantization"])
        self.assertEqual(self.said(self.target), "this is it")

    def test_an_existing_target_stays(self):
        os.mkdir(self.target)
        self.write("out/config.json", "{}")
        self.fails("convert", "--hf-path", self.source, "--mlx-path", self.target, says=["exists", "--overwrite"])
        self.assertEqual(os.listdir(self.target), ["config.json"])
        self.convert("--overwrite")
        self.assertEqual(self.said(self.target), "this is it")
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith(".out")], [])



def torch_save(tensors, root="pytorch_model"):
    """A file as torch.save writes it, of {name: (dtype, shape, bytes)}, without torch: pickle finds the functions by name."""
    storages = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in storages.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils

    class Storage:
        pass

    class Tensor:
        def __init__(self, storage, shape):
            self.storage, self.shape = storage, shape

        def __reduce__(self):
            stride = [1]
            for n in reversed(self.shape[1:]):
                stride.insert(0, stride[0] * n)
            stride = tuple(stride) if self.shape else ()
            return _rebuild_tensor_v2, (self.storage, 0, tuple(self.shape), stride, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, o):
            return o.id if isinstance(o, Storage) else None

    sizes, state, blobs = {"F32": 4, "F16": 2, "BF16": 2}, {}, []
    for name, value in tensors.items():
        if not isinstance(value, tuple):
            state[name] = value
            continue
        dtype, shape, content = value
        storage = Storage()
        storage.id = ("storage", getattr(torch, storages[dtype]), str(len(blobs)), "cpu", len(content) // sizes[dtype])
        blobs.append(content)
        state[name] = Tensor(storage, shape)
    out, archive = io.BytesIO(), io.BytesIO()
    saved = {k: sys.modules.get(k) for k in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        Pickler(out, protocol=2).dump(state)
    finally:
        for k, v in saved.items():
            sys.modules.pop(k) if v is None else sys.modules.update({k: v})
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr(root + "/data.pkl", out.getvalue())
        z.writestr(root + "/byteorder", "little")
        for i, blob in enumerate(blobs):
            z.writestr(f"{root}/data/{i}", blob)
    return archive.getvalue()


def read_file(*parts):
    with open(os.path.join(*parts), "rb") as f:
        return f.read()


class WantsCode:
    def __reduce__(self):
        return os.system, ("touch we-was-here",)


class Failing(EndToEnd):
    """Every failure leaves the earlier state: no target, or the old one, and nothing beside it."""

    def setUp(self):
        super().setUp()
        self.source = self.scripted("source", pieces=["this is it"])
        self.out = os.path.join(self.dir, "out")
        os.mkdir(self.out)
        self.target = os.path.join(self.out, "model")

    def source_file(self, name, content=None):
        path = os.path.join(self.source, name)
        if content is None:
            os.remove(path)
            return
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)

    def change_config(self, **changes):
        path = os.path.join(self.source, "config.json")
        with open(path) as f:
            config = json.load(f)
        config.update(changes)
        self.source_file("config.json", json.dumps(config))

    def refused(self, *args, says, status=1, **kw):
        before = sorted(os.listdir(self.out))
        done = self.fails("convert", "--hf-path", self.source, "--mlx-path", self.target, *args, says=says, status=status, **kw)
        self.assertEqual(sorted(os.listdir(self.out)), before, f"something was left{done}")
        return done

    def converted(self, *args, says=()):
        done = self.run_we("convert", "--hf-path", self.source, "--mlx-path", self.target, *args)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.notes)
        return done

    # ---- The command line ----

    def test_wrong_usage(self):
        self.usage("convert", says="--hf-path")
        for args, word in ((["-q", "-d"], "exclude"), (["--q-bits", "4"], "-q"), (["--quant-predicate", "mixed_2_6"], "-q"),
                           (["-q", "--q-bits", "7"], "7 bits"), (["-q", "--q-group-size", "48"], "48"),
                           (["-q", "--q-mode", "int4"], "affine|mxfp4"), (["-q", "--q-mode", "mxfp4", "--q-bits", "8"], "mxfp4"),
                           (["-q", "--q-mode", "nvfp4", "--quant-predicate", "mixed_3_4"], "leave --q-mode"),
                           (["--dtype", "float8"], "bfloat16"), (["-q", "--quant-predicate", "best"], "mixed_2_6")):
            self.refused(*args, says=word, status=2)

    # ---- The source ----

    def test_no_model(self):
        self.fails("convert", "--hf-path", "org/nowhere", "--mlx-path", self.target, says="org/nowhere")
        self.source_file("config.json")
        self.refused(says="config.json")
        self.source_file("config.json", "[]")
        self.refused(says=["config.json", "object"])
        self.source_file("config.json", "{")
        self.refused(says=["config.json", "line 1"])

    def test_no_weights(self):
        self.source_file("model.safetensors")
        self.refused(says=["no weights", "pytorch_model.bin"])

    def test_a_missing_shard_is_named(self):
        self.source_file("model.safetensors.index.json", json.dumps(
            {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}))
        os.rename(os.path.join(self.source, "model.safetensors"), os.path.join(self.source, "model-00001-of-00002.safetensors"))
        self.refused(says="model-00002-of-00002.safetensors")

    def test_a_download_cut_short(self):
        path = os.path.join(self.source, "model.safetensors")
        os.truncate(path, os.path.getsize(path) - 1)
        self.refused(says="model.safetensors")

    def test_a_tensor_that_is_missing_or_misshapen(self):
        self.change_config(num_hidden_layers=2)
        self.refused("-q", says="model.layers.1.")
        self.change_config(num_hidden_layers=1, intermediate_size=64)
        self.refused("-q", says=["gate_proj", "[32, 320]"])

    def test_foreign_packings(self):
        self.change_config(quantization_config={"quant_method": "gptq", "bits": 4})
        self.refused("-q", says=["gptq", "bfloat16"])

    def test_fp8(self):
        self.change_config(model_type="other")
        self.source_file("model.safetensors", safetensors({"a.weight": ("F8_E4M3", (2, 2), bytes(4))}))
        self.refused(says=["a.weight", "FP8"])

    def test_quantized_already(self):
        self.converted("-q")
        self.source, self.target = self.target, os.path.join(self.out, "again")
        self.refused("-q", says=["quantized already", "-d"])
        self.converted("-d")
        self.assertNotIn(b"quantization", read_file(self.target, "config.json"))

    def test_nan_and_inf_are_named(self):
        tensors = ScriptedModel(pieces=["x"]).tensors()
        tensors["model.norm.weight"] = ("F32", (320,), f32([float("nan"), float("-inf")] + [1.0] * 318))
        self.source_file("model.safetensors", safetensors(tensors))
        done = self.converted("-q", "--json", says=["model.norm.weight (1 NaN, 1 Inf)"])
        self.assertEqual((done.json()["nan"], done.json()["inf"]), (1, 1))

    def test_what_lies_beside_and_is_no_file(self):
        os.symlink("nowhere", os.path.join(self.source, "merges.txt"))
        self.refused(says=["merges.txt", "leads nowhere", "download"])
        os.remove(os.path.join(self.source, "merges.txt"))
        os.mkfifo(os.path.join(self.source, "vocab.json"))
        self.refused(says=["vocab.json", "no plain file"])

    def test_a_pipe_is_no_model(self):
        os.mkfifo(os.path.join(self.dir, "pipe"))
        for option in ("--hf-path", "--gguf"):
            self.fails("convert", option, "pipe", "--mlx-path", self.target, says=["pipe", "a model is a folder"])

    def test_an_unknown_architecture_is_converted(self):
        self.change_config(model_type="marvel")
        self.converted("-q", says=["marvel", "warning"])
        with open(os.path.join(self.target, "config.json")) as f:
            self.assertEqual(json.load(f)["quantization"]["bits"], 4)

    # ---- PyTorch's files ----

    def use_pytorch(self, tensors=None):
        self.source_file("model.safetensors")
        self.source_file("pytorch_model.bin", torch_save(tensors or ScriptedModel(pieces=["this is it"]).tensors()))

    def test_pytorch(self):
        plain = os.path.join(self.out, "plain")
        self.run_we("convert", "--hf-path", self.source, "--mlx-path", plain, "-q")
        self.use_pytorch()
        self.converted("-q")
        self.assertEqual(read_file(plain, "model.safetensors"), read_file(self.target, "model.safetensors"))

    def test_a_pickle_that_wants_code(self):
        self.use_pytorch({"a": WantsCode()})
        self.refused(says="system", cwd=self.out)

    def test_pytorch_that_misses_a_tensor(self):
        tensors = ScriptedModel(pieces=["x"]).tensors()
        del tensors["model.norm.weight"]
        self.use_pytorch(tensors)
        done = self.refused(says="model.norm")
        self.assertNotIn(".tmp", done.notes)

    def test_pytorch_of_old(self):
        self.use_pytorch()
        self.source_file("pytorch_model.bin", pickle.dumps({"a": 1}, protocol=2))
        self.refused(says="before 1.6")

    # ---- The target ----

    def test_existing_targets(self):
        for content, word in (("file", "exists"), ("folder", "exists")):
            if content == "file":
                self.write("out/model", "precious")
            else:
                os.remove(self.target)
                self.write("out/model/precious.txt", "precious")
            self.refused(says=[word, "--overwrite"])
        self.refused("--overwrite", says="no config.json")
        self.write("out/model/config.json", "{}")
        self.write("out/model/sub/precious.txt", "precious")
        self.refused("--overwrite", says="sub")
        self.assertTrue(os.path.exists(os.path.join(self.target, "sub", "precious.txt")))

    def test_the_source_itself(self):
        self.target = self.source
        self.refused("--overwrite", says="to be converted")

    def test_overwriting_keeps_the_old_until_the_new_is_whole(self):
        self.converted()
        old = read_file(self.target, "config.json")
        self.use_pytorch({"a": WantsCode()})
        self.refused("--overwrite", says="system")
        self.assertEqual(read_file(self.target, "config.json"), old)

    def test_overwriting_a_link_spares_what_it_leads_to(self):
        self.converted()
        link = os.path.join(self.out, "link")
        os.symlink("model", link)
        self.run_we("convert", "--hf-path", self.source, "--mlx-path", link, "--overwrite", "-q")
        self.assertFalse(os.path.islink(link))
        self.assertTrue(os.path.exists(os.path.join(self.target, "config.json")))
        self.assertEqual(sorted(os.listdir(self.out)), ["link", "model"])

    def test_parents_that_were_made_go_again(self):
        self.target = os.path.join(self.out, "a", "b", "model")
        self.use_pytorch({"a": WantsCode()})
        self.refused(says="system")
        self.source_file("pytorch_model.bin", torch_save(ScriptedModel(pieces=["x"]).tensors()))
        self.converted()

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_no_permission(self):
        os.chmod(self.out, 0o555)
        self.addCleanup(os.chmod, self.out, 0o755)
        self.refused(says=["cannot be made", "Permission denied"])

    def test_a_parent_that_is_a_file(self):
        self.write("out/file", "x")
        self.target = os.path.join(self.out, "file", "model")
        self.refused(says="file")

    def limited(self, *args, limit):
        """The command with files of at most `limit` bytes: what a full disk looks like."""
        return subprocess.run([PROGRAM, "convert", "--hf-path", self.source, "--mlx-path", self.target, *args],
                              capture_output=True, cwd=self.dir, env=self.environment(), timeout=TIMEOUT_S,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))

    def test_no_space(self):
        for limit in (100, 100000):
            p = self.limited("-q", limit=limit)
            self.assertEqual(p.returncode, 1, p)
            self.assertIn(b"File too large", p.stderr)
            self.assertEqual(os.listdir(self.out), [])

    # ---- Being stopped ----

    def large_source(self):
        """Sparse and of an unknown kind: takes long enough to be stopped, and no room."""
        n = 1 << 31
        header = json.dumps({"a.weight": {"dtype": "BF16", "shape": [n // 8192, 4096], "data_offsets": [0, n]}}).encode()
        header += b" " * (-len(header) % 8)
        self.source_file("model.safetensors", struct.pack("<Q", len(header)) + header)
        os.truncate(os.path.join(self.source, "model.safetensors"), 8 + len(header) + n)
        self.change_config(model_type="other")

    def start(self, *args):
        self.large_source()
        p = subprocess.Popen([PROGRAM, "convert", "--hf-path", self.source, "--mlx-path", self.target, "-q", "--q-mode",
                              "nvfp4", *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir, env=self.environment())
        while p.poll() is None and not any(os.path.exists(os.path.join(self.out, n, "model.safetensors"))
                                           for n in os.listdir(self.out)):
            pass
        self.assertIsNone(p.poll(), "it ended before it was stopped")
        return p

    def test_ctrl_c(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            p = self.start()
            p.send_signal(number)
            _, told = p.communicate(timeout=TIMEOUT_S)
            self.assertEqual(p.returncode, 128 + number, told)
            self.assertIn(b"as it was before", told)
            self.assertEqual(os.listdir(self.out), [])

    def test_a_kill_leaves_the_old_and_what_it_left_goes_later(self):
        os.mkdir(self.target)
        self.write("out/model/config.json", "{}")
        p = self.start("--overwrite")
        p.kill()
        p.communicate()
        self.assertEqual(os.listdir(self.target), ["config.json"])
        self.assertEqual(len(os.listdir(self.out)), 2)
        self.source = self.scripted("small", pieces=["small"])
        self.converted("--overwrite")
        self.assertEqual(os.listdir(self.out), ["model"])


if __name__ == "__main__":
    main()
