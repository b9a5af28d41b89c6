# SPDX-License-Identifier: Apache-2.0
"""The library's log in Python's logging."""
import logging
import unittest

import helpers
from whisperengine import _logging
from whisperengine.llm.mlx_backend import MLXBackend, MLXModelConfig
from whisperengine.llm.smart_backend_selector import get_smart_backend_selector

NAME = "whisperengine.llm.mlx_backend"


class Log(helpers.PackageTest):
    def setUp(self):
        super().setUp()
        self.scripted()
        for name in (NAME, "src.llm.mlx_backend"):
            self.addCleanup(logging.getLogger(name).setLevel, logging.NOTSET)

    def load(self):
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(MLXModelConfig("scripted")))
            backend.generate_response("x")

    def test_a_loggers_level_turns_the_librarys_on_and_off(self):
        with self.assertLogs(NAME, "DEBUG") as log:
            self.load()
        self.assertTrue([r for r in log.records if r.levelno == logging.DEBUG])
        with self.assertLogs(NAME, _logging.TRACE) as more:
            self.load()
        self.assertGreaterEqual(len(more.records), len(log.records))
        logging.getLogger(NAME).setLevel(logging.CRITICAL)
        self.load()
        self.assertIn("off", _logging._spec.split(",")[0])

    def test_the_library_writes_nothing_that_nobody_wants(self):
        self.load()
        self.assertEqual(_logging._spec, "warn,backend=warn,client=warn")
        logging.getLogger("whisperengine.llm.smart_backend_selector").setLevel(logging.DEBUG)
        self.addCleanup(logging.getLogger("whisperengine.llm.smart_backend_selector").setLevel, logging.NOTSET)
        get_smart_backend_selector().get_fallback_chain()
        self.assertEqual(_logging._spec, "warn,backend=debug,client=warn")

    def test_under_the_other_name(self):
        import src.llm.mlx_backend as alias
        self.addCleanup(_logging._loggers.pop, "mlx_backend")
        self.assertIs(alias.MLXBackend, MLXBackend)
        _logging.alias("mlx_backend", "src.llm.mlx_backend")
        for name in ("src.llm.mlx_backend", NAME):
            with self.subTest(name):
                with self.assertLogs(name, "DEBUG") as log:
                    logging.getLogger("src.llm.mlx_backend").setLevel(logging.DEBUG)
                    self.load()
                self.assertTrue(log.records)
                self.assertEqual({r.name for r in log.records}, {"src.llm.mlx_backend"})
        self.assertEqual(logging.getLogger("src.llm.mlx_backend").parent.name, NAME)

    def test_a_failing_handler_harms_nobody(self):
        class Broken(logging.Handler):
            def emit(self, record):
                raise ValueError("broken handler")

        handler = Broken()
        logger = logging.getLogger(NAME)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        logger.setLevel(logging.DEBUG)
        said = []
        import sys
        before, sys.unraisablehook = sys.unraisablehook, lambda e: said.append(str(e.exc_value))
        self.addCleanup(setattr, sys, "unraisablehook", before)
        self.load()
        self.assertEqual(set(said), {"broken handler"})


if __name__ == "__main__":
    unittest.main()
