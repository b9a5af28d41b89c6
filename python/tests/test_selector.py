# SPDX-License-Identifier: Apache-2.0
"""The selector: the chain, its order, its reasons."""
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


if __name__ == "__main__":
    unittest.main()
