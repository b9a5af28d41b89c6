# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python package share: a home of their own, and the scripted models of tests/e2e/support.py.

They run against the source tree with the built library (CTest sets PYTHONPATH and WHISPERENGINE_LIBRARY), and against the
installed package (script/conformance sets neither)."""
import os
import shutil
import sys
import tempfile
import unittest

SOURCE_DIR = os.environ.get("WE_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEFAULT_MODEL = os.path.join(SOURCE_DIR, "models", "default")
sys.path.append(os.path.join(SOURCE_DIR, "tests", "e2e"))

from support import ScriptedModel  # noqa: E402

TIMEOUT_S = 120  # nothing waits for its end
DROP = ("LLM_CHAT_API_URL", "OLLAMA_HOST", "OLLAMA_MODELS", "LMSTUDIO_HOST", "LM_API_TOKEN", "WHISPERENGINE_MODEL", "WE_LOG")


class PackageTest(unittest.TestCase):
    """A test in a folder of its own, with an empty home and ./models as the models folder."""
    maxDiff = None

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="we-python-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.addCleanup(os.chdir, os.getcwd())
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        for name in list(os.environ):
            if name in DROP or name.startswith(("MLX_", "XDG_", "HF_", "FALLBACK_MODEL_")):
                del os.environ[name]
        os.makedirs(os.path.join(self.dir, "models", "mlx"))
        os.makedirs(os.path.join(self.dir, "home"))
        os.chdir(self.dir)
        # Nobody listens on the discard port: what runs on the developer's machine is left alone.
        os.environ.update(HOME=os.path.join(self.dir, "home"), LOCAL_MODELS_DIR="./models", OLLAMA_HOST="127.0.0.1:9",
                          LMSTUDIO_HOST="127.0.0.1:9")

    def scripted(self, name="scripted", **kw):
        """A model that says its pieces; below ./models/mlx."""
        return ScriptedModel(**kw).save(os.path.join("models", "mlx", name))

    def builtin(self, name):
        os.symlink(DEFAULT_MODEL, os.path.join("models", "mlx", name))

    def backend(self, name="scripted", **kw):
        """A backend with a scripted model loaded."""
        from whisperengine.llm.mlx_backend import MLXBackend, MLXModelConfig
        config = MLXModelConfig(name)
        if kw.get("loop"):  # an answer that does not end while a test runs
            kw["context"] = config.context = 1000000
            config.max_tokens = 0
        self.scripted(name, **kw)
        backend = MLXBackend()
        self.addCleanup(backend.unload_model)
        self.assertTrue(backend.load_model(config), backend.last_error)
        return backend
