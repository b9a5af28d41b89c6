# SPDX-License-Identifier: Apache-2.0
"""Converting models: what the folder holds, that it runs, and that every failure leaves the earlier state. (That the
weights are mlx-lm's bit for bit is tests/conformance/convert_live.py's to hold.)"""
import json
import os
import struct

from support import EndToEnd, main


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


if __name__ == "__main__":
    main()
