# SPDX-License-Identifier: Apache-2.0
"""The selector: the chain, its order, its reasons."""
import contextlib
import io
import os
import unittest

import helpers
from whisperengine.llm.smart_backend_selector import BackendInfo, get_smart_backend_selector

NAMES = ["MLX", "LM Studio", "Ollama", "llama-cpp-python", "Transformers"]


class Selector(helpers.PackageTest):
    def test_the_chain(self):
        selector = get_smart_backend_selector()
        self.assertIs(selector, get_smart_backend_selector())
        chain = selector.get_fallback_chain()
        self.assertEqual([b.name for b in chain], NAMES)
        self.assertEqual([b.priority for b in chain], [1, 2, 3, 4, 5])
        for backend in chain:
            self.assertIsInstance(backend, BackendInfo)
            self.assertTrue(backend.description and backend.reason and backend.id, backend)
        self.assertTrue(chain[0].available)
        self.assertFalse(chain[1].available)
        self.assertIn("127.0.0.1:9", chain[1].url)

    def test_the_optimal_backend(self):
        self.scripted("mine")
        best = get_smart_backend_selector().get_optimal_backend()
        self.assertEqual(best.name, "MLX")
        self.assertIn("mine", [m.name for m in best.models])

    def test_the_environment_is_configured_where_it_says_nothing(self):
        self.scripted("mine")
        selector = get_smart_backend_selector()
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertIs(selector.auto_configure_environment(dry_run=True), True)
        self.assertEqual(said.getvalue(), "LLM_CHAT_API_URL=mlx://mine\nMLX_MODEL_NAME=mine\n")
        self.assertNotIn("MLX_MODEL_NAME", os.environ)
        os.environ["MLX_MODEL_NAME"] = "other"
        with open(".env", "w") as f:
            f.write("# kept\nexport LLM_CHAT_API_URL=ollama://x")
        self.assertIs(selector.auto_configure_environment(dotenv=True), True)
        self.assertNotIn("LLM_CHAT_API_URL", os.environ, "./.env says it")
        with open(".env") as f:
            self.assertEqual(f.read(), "# kept\nexport LLM_CHAT_API_URL=ollama://x")
        os.remove(".env")
        self.assertTrue(selector.auto_configure_environment(dotenv=True))
        self.assertEqual(os.environ["LLM_CHAT_API_URL"], "mlx://other")
        with open(".env") as f:
            self.assertEqual(f.read(), "LLM_CHAT_API_URL=mlx://other\n")
        self.assertEqual(os.stat(".env").st_mode & 0o777, 0o600)

    def test_a_dotenv_that_is_not_to_be_trusted_is_left_alone(self):
        from whisperengine.errors import WhisperEngineError
        self.scripted("mine")
        with open(".env", "w") as f:
            f.write("MLX_TOP_P=0.5\n")
        os.chmod(".env", 0o666)
        with self.assertRaisesRegex(WhisperEngineError, "others may write to it"):
            get_smart_backend_selector().auto_configure_environment(dotenv=True)
        self.assertNotIn("LLM_CHAT_API_URL", os.environ)

    def test_recommendations(self):
        advice = get_smart_backend_selector().get_setup_recommendations()
        self.assertTrue(all(isinstance(a, str) for a in advice))
        self.assertTrue(any("memory" in a for a in advice), advice)
        self.assertTrue(any(a.startswith("Ollama") for a in advice), advice)


if __name__ == "__main__":
    unittest.main()
