# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/python.md and docs/seed.md run and print what the page says. Where the first guide itself is at hand
(WE_SEED, or ../shared/seed.md), each of its Python blocks is one of docs/seed.md's, word for word."""
import contextlib
import inspect
import io
import logging
import os
import re
import sys
import types
import unittest

import helpers

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path):
    with open(path, encoding="utf-8") as f:
        return BLOCK.findall(f.read())


def stand_in(test, name, **content):
    """A package of others, where it is not installed."""
    try:
        __import__(name)
    except ImportError:
        for i, part in enumerate(name.split(".")):
            full = ".".join(name.split(".")[:i + 1])
            module = sys.modules[full] = types.ModuleType(full)
            test.addCleanup(sys.modules.pop, full, None)
        module.__dict__.update(content)
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)


class Examples(helpers.PackageTest):
    def setUp(self):
        super().setUp()
        root = logging.getLogger()
        before, level = list(root.handlers), root.level
        self.addCleanup(lambda: (setattr(root, "handlers", before), root.setLevel(level)))
        for name in ("whisperengine.llm.mlx_backend", "src.llm.mlx_backend"):
            self.addCleanup(logging.getLogger(name).setLevel, logging.NOTSET)

    def run_page(self, name):
        """Its blocks one after the other, in one namespace; a text block is what the block before it prints."""
        space, printed, n = {"__name__": "example"}, "", 0
        for kind, text in blocks(os.path.join(helpers.SOURCE_DIR, "docs", name)):
            if kind == "text":
                pattern = re.escape(text).replace("…", ".*")
                self.assertRegex(printed, re.compile(f"^{pattern}$", re.DOTALL))
            elif text.startswith("class "):
                self.check_signatures(text)
            else:
                out = io.StringIO()
                with self.subTest(text), contextlib.redirect_stdout(out):
                    exec(compile(text, name, "exec"), space)
                    n += 1
                printed = out.getvalue()
        return space, n

    def check_signatures(self, text):
        import src.llm.mlx_backend
        import src.llm.smart_backend_selector
        name = re.match(r"class (\w+)", text)[1]
        class_ = getattr(src.llm.mlx_backend, name, None) or getattr(src.llm.smart_backend_selector, name)
        for method, parameters in re.findall(r"def (\w+)\((.*?)\)", text):
            wanted = [p.split(":")[0].strip().lstrip("*") for p in parameters.split(",")]
            found = list(inspect.signature(inspect.getattr_static(class_, method).__func__ if isinstance(
                inspect.getattr_static(class_, method), classmethod) else getattr(class_, method)).parameters.values())
            self.assertEqual([p.name for p in found][:len(wanted)], wanted, method)
            for more in found[len(wanted):]:  # ours may take more, not ask for more
                self.assertIsNot(more.default, inspect.Parameter.empty, f"{method}({more.name})")

    def test_the_first_guide(self):
        os.symlink(helpers.DEFAULT_MODEL, os.path.join("models", "llama-3.1-8b-instruct"))
        stand_in(self, "psutil", virtual_memory=lambda: types.SimpleNamespace(percent=12.5))
        stand_in(self, "mlx.core", default_device=lambda: "metal")
        with self.assertLogs("src.llm.mlx_backend", "DEBUG"):
            space, n = self.run_page("seed.md")
            space["mlx_backend"].load_model(space["config"])
            self.addCleanup(space["mlx_backend"].unload_model)
        self.assertGreaterEqual(n, 10)
        self.assertIs(space["success"], True)
        self.assertTrue(os.path.isfile("models/mlx/llama-3.1-8b-instruct/config.json"))
        self.assertEqual(space["optimal_backend"].name, "MLX")
        self.assertTrue(space["response"]["choices"][0]["message"]["content"])
        self.assertEqual(space["response"]["model"], "llama-3.1-8b-instruct")
        self.assertEqual(space["custom_config"].max_tokens, 4096)
        space["client"].close()

    def test_the_python_page(self):
        space, n = self.run_page("python.md")
        self.assertGreaterEqual(n, 5)

    def test_the_page_quotes_the_guide(self):
        guide = os.environ.get("WE_SEED") or os.path.join(helpers.SOURCE_DIR, "..", "shared", "seed.md")
        if not os.path.exists(guide):
            self.skipTest("the first guide is not at hand")
        quoted = [text for kind, text in blocks(os.path.join(helpers.SOURCE_DIR, "docs", "seed.md"))]
        for kind, text in blocks(guide):
            self.assertIn(text, quoted)


if __name__ == "__main__":
    unittest.main()
