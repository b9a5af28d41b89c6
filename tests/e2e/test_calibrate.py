# SPDX-License-Identifier: Apache-2.0
"""convert --calibrate: nearer to the model than plain rounding in no more bytes, the same each time, refusals that say why, and
nothing left behind. The model is the first two layers of the built-in one, so that this takes seconds."""
import json
import os
import signal
import struct
import subprocess
import time

import ggufs
from support import DEFAULT_MODEL, PROGRAM, SOURCE_DIR, TIMEOUT_S, EndToEnd, main, safetensors

CONTENT = os.path.join(SOURCE_DIR, "tools", "default-model", "content")


def content(name, n):
    with open(os.path.join(CONTENT, name), encoding="utf-8") as f:
        return f.read()[:n]


class Calibrating(EndToEnd):
    def setUp(self):
        super().setUp()
        self.source = os.path.join(self.dir, "source")
        self.run_we("convert", "--hf-path", DEFAULT_MODEL, "--mlx-path", self.source, "-d")

    def keep_two_layers(self):
        path = os.path.join(self.source, "model.safetensors")
        with open(path, "rb") as f:
            data = f.read()
        length, = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + length])
        header.pop("__metadata__", None)
        kept = {}
        for name, t in header.items():
            if ".layers." in name and int(name.split(".layers.")[1].split(".")[0]) >= 2:
                continue
            begin, end = t["data_offsets"]
            kept[name] = (t["dtype"], t["shape"], data[8 + length + begin:8 + length + end])
        with open(path, "wb") as f:
            f.write(safetensors(kept))
        os.remove(os.path.join(self.source, "model.safetensors.index.json"))
        path = os.path.join(self.source, "config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        config["num_hidden_layers"] = 2
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)

    def convert(self, target, *args, **kw):
        return self.run_we("convert", "--hf-path", self.source, "--mlx-path", os.path.join(self.dir, target), "-q",
                           "--q-bits", "3", *args, **kw)

    def divergence(self, target, text):
        return self.run_we("perplexity", "-m", os.path.join(self.dir, target), "--file", text, "--kl-base", self.source,
                           "--context", "256", "--json").json()["kld"]["mean"]

    def files(self, target):
        found = {}
        for name in sorted(os.listdir(os.path.join(self.dir, target))):
            with open(os.path.join(self.dir, target, name), "rb") as f:
                found[name] = f.read()
        return found

    def test_nearer_in_the_same_size_and_the_same_again(self):
        self.keep_two_layers()
        seen, unseen = self.write("seen.txt", content("product.txt", 16000)), self.write("unseen.txt", content("concepts.txt", 6000))
        plain = self.convert("plain", "--json").json()
        calibrated = self.convert("calibrated", "--calibrate", seen, "--json").json()
        self.assertLessEqual(calibrated["bits_per_weight"], plain["bits_per_weight"] * 1.0001)
        self.assertEqual(calibrated["quantized"], plain["quantized"])
        self.assertLess(self.divergence("calibrated", unseen), 0.7 * self.divergence("plain", unseen))
        with open(os.path.join(self.dir, "calibrated", "config.json"), encoding="utf-8") as f:
            q = json.load(f)["quantization"]
        self.assertEqual({k: q[k] for k in ("bits", "group_size", "mode")}, {"bits": 3, "group_size": 64, "mode": "affine"})
        layers = {k: v for k, v in q.items() if isinstance(v, dict)}
        self.assertEqual(len(layers), calibrated["quantized"])
        self.assertGreater(len({v["bits"] for v in layers.values()}), 1, "bits follow need")
        pipe = os.path.join(self.dir, "pipe")
        os.mkfifo(pipe)
        with subprocess.Popen(["sh", "-c", 'exec cat "$0" >"$1"', seen, pipe]):
            self.convert("again", "--calibrate", pipe)
        self.assertEqual(self.files("again"), self.files("calibrated"))

    def test_of_a_gguf_file(self):
        """Bits are those that the same weights get from a folder: the rows of q and k lie in another order in the file."""
        self.keep_two_layers()
        with open(os.path.join(self.source, "tokenizer.json"), encoding="utf-8") as f:
            tokenizer = json.load(f)
        gguf = ggufs.tokenizer(ggufs.from_folder(self.source), tokenizer, {"eos_token": "<|im_end|>"}, "qwen2")
        gguf.save(os.path.join(self.dir, "m.gguf"))
        seen = self.write("seen.txt", content("product.txt", 8000))
        self.convert("folder", "--dtype", "float16", "--calibrate", seen)
        self.run_we("convert", "--gguf", "m.gguf", "--mlx-path", os.path.join(self.dir, "file"), "-q", "--q-bits", "3", "--dtype",
                    "float16", "--calibrate", seen)
        bits = []
        for target in ("folder", "file"):
            with open(os.path.join(self.dir, target, "config.json"), encoding="utf-8") as f:
                q = json.load(f)["quantization"]
            bits.append({k: v["bits"] for k, v in q.items() if isinstance(v, dict)})
        self.assertEqual(bits[0], bits[1])

    def test_texts_that_will_not_do(self):
        def refused(name, data, says):
            path = os.path.join(self.dir, name)
            with open(path, "wb") as f:
                f.write(data)
            self.fails("convert", "--hf-path", self.source, "--mlx-path", os.path.join(self.dir, "out"), "-q",
                       "--calibrate", path, says=[name, *says])

        refused("empty.txt", b"", ["is empty"])
        refused("zeros.bin", b"text\0text" * 1000, ["is no text"])
        refused("latin1.txt", b"caf\xe9 " * 3000, ["UTF-8"])
        refused("short.txt", b"Too little to go by.", ["is too short", "1024"])
        self.fails("convert", "--hf-path", self.source, "--mlx-path", "out", "-q", "--calibrate", "missing.txt",
                   says="missing.txt")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "out")))
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith(".out")], [])

    def test_wrong_usage(self):
        args = ("convert", "--hf-path", self.source, "--mlx-path", "out", "--calibrate", "t.txt")
        self.fails(*args, status=2, says=["--calibrate", "-q"])
        self.fails(*args, "-q", "--quant-predicate", "mixed_3_6", status=2, says="--quant-predicate")
        self.fails(*args, "-q", "--q-mode", "mxfp4", status=2, says="--q-mode")

    def test_ctrl_c(self):
        text = self.write("long.txt", "".join(content(n, 60000) for n in ("product.txt", "concepts.txt", "commands.txt")))
        before = sorted(os.listdir(self.dir))
        p = subprocess.Popen([PROGRAM, "convert", "--hf-path", self.source, "--mlx-path", "out", "-q", "--calibrate", text,
                              "--log", "model=info", "-v"], cwd=self.dir, stderr=subprocess.PIPE, env=self.environment())
        for line in p.stderr:  # the model is loaded: from here on it calibrates
            if b"context" in line:
                break
        time.sleep(0.2)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=TIMEOUT_S)
        self.assertEqual(p.returncode, 130, err)
        self.assertIn(b"as it was before", err)
        self.assertEqual(sorted(os.listdir(self.dir)), before)


if __name__ == "__main__":
    main()
