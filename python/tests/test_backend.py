# SPDX-License-Identifier: Apache-2.0
"""MLXBackend: loading, answering, options, errors, threads, interrupts."""
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

import helpers
from whisperengine import errors
from whisperengine.llm.mlx_backend import (MLXBackend, MLXModelConfig, convert_model_to_mlx, create_mlx_backend,
                                           get_default_mlx_model_config)

LOG = "whisperengine.llm.mlx_backend"


class Loading(helpers.PackageTest):
    def test_the_built_in_model_answers(self):
        backend = create_mlx_backend()
        self.assertIsNotNone(backend)
        self.assertTrue(backend.load_model(get_default_mlx_model_config("default")))
        self.addCleanup(backend.unload_model)
        answer = backend.generate_response(prompt="Hello, how are you?", max_tokens=100, temperature=0)
        self.assertIsInstance(answer, str)
        self.assertGreater(len(answer.split()), 2)
        self.assertEqual(answer, backend.generate_response("Hello, how are you?", max_tokens=100, temperature=0))

    def test_info(self):
        backend = MLXBackend()
        self.assertEqual(backend.get_model_info(), {"backend": "MLX", "loaded": False})
        backend = self.backend()
        info = backend.get_model_info()
        self.assertTrue(info["loaded"])
        self.assertEqual(info["model_type"], "llama")
        self.assertEqual(info["context"], 4096)
        self.assertGreater(info["weights_bytes"], 0)
        self.assertIn(info["device"], ("cpu", "mlx", "cuda"))

    def test_a_missing_model_is_false_and_logged_as_in_the_guide(self):
        backend = MLXBackend()
        with self.assertLogs(LOG, "ERROR") as log:
            self.assertFalse(backend.load_model(get_default_mlx_model_config("model-name")))
        self.assertEqual(log.records[0].getMessage().splitlines()[0],
                         "Error: Model path does not exist: ./models/mlx/model-name")
        self.assertIsInstance(backend.last_error, errors.ModelNotFoundError)
        self.assertIsInstance(backend.last_error, FileNotFoundError)
        self.assertFalse(backend.get_model_info()["loaded"])

    def test_a_broken_model_is_false_and_the_log_names_file_and_cause(self):
        folder = self.scripted("broken")
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write("{")
        backend = MLXBackend()
        with self.assertLogs(LOG, "ERROR") as log:
            self.assertFalse(backend.load_model(MLXModelConfig("broken")))
        self.assertIn("config.json", log.output[0])
        self.assertIsInstance(backend.last_error, errors.FormatError)

    def test_a_failed_load_keeps_the_model_when_the_other_is_not_there(self):
        backend = self.backend()
        with self.assertLogs(LOG, "ERROR"):
            self.assertFalse(backend.load_model(MLXModelConfig("nothing")))
        self.assertEqual(backend.generate_response("x"), "Hello, world!")

    def test_wrong_configurations(self):
        self.scripted()
        for wrong, says in ((dict(dtype="int7"), "dtype is 'int7'"), (dict(context=-1), "context"), (dict(kv_bits=5), "5")):
            with self.subTest(wrong), self.assertLogs(LOG, "ERROR") as log:
                self.assertFalse(MLXBackend().load_model(MLXModelConfig("scripted", **wrong)))
                self.assertIn(says, log.output[0])

    def test_float32_computes_precisely(self):
        self.scripted()
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(MLXModelConfig("scripted", dtype="float32")))
            self.assertEqual(backend.generate_response("x"), "Hello, world!")
        self.assertFalse(backend.get_model_info()["loaded"])

    def test_another_model_takes_the_place(self):
        backend = self.backend()
        self.scripted("second", pieces=["Second."])
        self.assertTrue(backend.load_model(MLXModelConfig("second")))
        self.assertEqual(backend.generate_response("x"), "Second.")

    def test_a_path_with_unicode(self):
        os.rename(self.scripted(), "mödel ✓")
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(MLXModelConfig("./mödel ✓")))
            self.assertTrue(backend.get_model_info()["model_path"].endswith("mödel ✓"))

    def test_use_after_unload(self):
        backend = self.backend()
        backend.unload_model()
        backend.unload_model()
        with self.assertRaisesRegex(errors.ModelNotLoadedError, "load_model"):
            backend.generate_response("x")

    def test_memory_comes_back_when_a_backend_is_dropped(self):
        from whisperengine import _native
        backend = MLXBackend()
        self.scripted()
        self.assertTrue(backend.load_model(MLXModelConfig("scripted")))
        with mock.patch.object(_native.lib(), "we_model_close", wraps=_native.lib().we_model_close) as close:
            answer = backend.generate_response_async("x")
            del backend
            self.assertEqual(answer.result(), "Hello, world!")
            del answer
            gc.collect()
            close.assert_called_once()

    def test_available(self):
        self.assertTrue(MLXBackend.is_available())
        with self.assertLogs(LOG, "ERROR") as log:
            self.assertFalse(MLXBackend.is_available(device="nonsense"))
        if not MLXBackend.is_available(device="cpu"):
            self.fail("the CPU is always there")
        self.assertIn("nonsense", log.output[0])

    @unittest.skipIf(sys.platform == "darwin", "the framework is found by its own path there")
    def test_the_framework_itself_is_not(self):
        open("libmlx.so", "wb").close()  # found first, and no library: also where MLX is installed
        done = subprocess.run([sys.executable, "-c", "import logging; logging.basicConfig(format='%(levelname)s %(message)s')\n"
                               "from whisperengine.llm.mlx_backend import MLXBackend\n"
                               "print(MLXBackend.is_available(device='mlx'))"],
                              env={**os.environ, "LD_LIBRARY_PATH": os.getcwd()}, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, "False\n"), done.stderr)
        self.assertEqual(done.stderr,
                         "ERROR Error: MLX not available. This backend requires Apple Silicon and mlx-lm package.\n")

    def test_available_models(self):
        self.scripted("one")
        self.scripted("broken")
        os.remove("models/mlx/broken/model.safetensors")
        names = MLXBackend.find_available_models()
        self.assertIn("one", names)
        self.assertIn("default", names)
        self.assertNotIn("broken", names)


class Configuration(helpers.PackageTest):
    def test_defaults(self):
        config = get_default_mlx_model_config("default")
        self.assertEqual((config.max_tokens, config.temperature, config.top_p), (2048, 0.7, 0.9))

    def test_the_environment_acts(self):
        self.scripted("mine")
        os.environ.update(MLX_MODEL_NAME="mine", MLX_MAX_TOKENS="7", MLX_TEMPERATURE="0.25", MLX_TOP_P="0.5")
        config = get_default_mlx_model_config()
        self.assertEqual(config.model_path, "./models/mlx/mine")
        self.assertEqual((config.max_tokens, config.temperature, config.top_p), (7, 0.25, 0.5))

    def test_invalid_values_name_variable_value_and_range(self):
        for name, value in (("MLX_MAX_TOKENS", "-5"), ("MLX_MAX_TOKENS", "many"), ("MLX_TEMPERATURE", "hot"),
                            ("MLX_TOP_P", "1.5")):
            with self.subTest(name), mock.patch.dict(os.environ, {name: value}):
                with self.assertRaises(errors.InvalidArgumentError) as caught:
                    get_default_mlx_model_config("default")
                self.assertIn(name, str(caught.exception))
                self.assertIn(f"'{value}'", str(caught.exception))
                self.assertRegex(str(caught.exception), r"\d+ to \d+")

    def test_batch_size_counts_for_the_load(self):
        os.environ["MLX_BATCH_SIZE"] = "0"
        with self.assertLogs(LOG, "ERROR") as log:
            self.assertFalse(MLXBackend().load_model(MLXModelConfig("default")))
        self.assertIn("MLX_BATCH_SIZE", log.output[0])


class Answering(helpers.PackageTest):
    def test_options(self):
        backend = self.backend(pieces=("one ", "two ", "three ", "four"))
        self.assertEqual(backend.generate_response("x"), "one two three four")
        self.assertEqual(backend.generate_response("x", max_tokens=2), "one two ")
        self.assertEqual(backend.generate_response("x", stop="three"), "one two ")
        self.assertEqual(backend.generate_response("x", stop=["zero", "two"]), "one ")

    def test_the_configs_values_hold_where_a_call_says_nothing(self):
        self.scripted(pieces=("aa", "bb", "cc"))
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(MLXModelConfig("scripted", max_tokens=2)))
            self.assertEqual(backend.generate_response("x"), "aabb")
            self.assertEqual(backend.generate_response("x", max_tokens=3), "aabbcc")

    def test_a_seed_repeats_and_no_seed_varies(self):
        backend = MLXBackend()
        self.assertTrue(backend.load_model(MLXModelConfig("default")))
        self.addCleanup(backend.unload_model)
        ask = dict(max_tokens=24, temperature=2.0, top_p=1.0, raw=True)
        self.assertEqual(backend.generate_response("The", seed=5, **ask), backend.generate_response("The", seed=5, **ask))
        self.assertGreater(len({backend.generate_response("The", **ask) for _ in range(4)}), 1)

    def test_unicode(self):
        text = "naïve – 日本語 🍎"
        backend = self.backend(pieces=[*text.encode("utf-8").split(b" ")[0:1], b" \xf0\x9f", b"\x8d\x8e"])
        self.assertEqual(backend.generate_response("Äpfel 🍏\0 und\r\nmehr"), "naïve 🍎")
        self.assertEqual(list(backend.generate_response_async("x")), ["naïve", " ", "🍎"])

    def test_raw_and_system_prompt(self):
        backend = self.backend(pieces=("AA", "BB"))
        self.assertEqual(backend.generate_response("<|assistant|>", raw=True, temperature=0, max_tokens=2), "AABB")
        self.assertEqual(backend.generate_response("x", system_prompt="Be brief."), "AABB")

    def test_wrong_arguments(self):
        backend = self.backend()
        for call, error, says in (
                (dict(max_token=3), TypeError, "max_tokens"),
                (dict(temperature="hot"), TypeError, "temperature"),
                (dict(temperature=-1.0), errors.OutOfRangeError, "temperature"),
                (dict(top_p=2), errors.OutOfRangeError, "top_p"),
                (dict(max_tokens=-1), errors.InvalidArgumentError, "max_tokens"),
                (dict(seed=2**64), errors.InvalidArgumentError, "seed"),
                (dict(stop=""), errors.InvalidArgumentError, "stop"),
                (dict(stop=["a\0b"]), errors.InvalidArgumentError, "NUL")):
            with self.subTest(call), self.assertRaisesRegex(error, says):
                backend.generate_response("x", **(call if call != dict(stop="") else dict(stop=[""])))
        with self.assertRaises(TypeError):
            backend.generate_response(None)
        with self.assertRaisesRegex(errors.WhisperEngineError, "no valid text"):
            backend.generate_response("half a pair: \ud83c")
        self.assertEqual(backend.generate_response("x"), "Hello, world!")

    def test_a_prompt_beyond_the_context(self):
        backend = self.backend(context=64)
        with self.assertRaises(errors.OutOfRangeError):
            backend.generate_response("long " * 100)
        self.assertEqual(backend.generate_response("x"), "Hello, world!")

    def test_streaming_without_asyncio(self):
        backend = self.backend(pieces=("aa", "bb", "cc"))
        response = backend.generate_response_async("x")
        self.assertEqual(list(response), ["aa", "bb", "cc"])
        self.assertEqual(list(response), ["aa", "bb", "cc"])
        self.assertEqual((response.result(), str(response)), ("aabbcc", "aabbcc"))
        self.assertTrue(response.done())
        self.assertFalse(response.cancel())

    def test_leaving_a_stream_stops_the_engine(self):
        backend = self.backend(pieces=("tick ",), loop=True)
        response = backend.generate_response_async("x")
        for piece in response:
            self.assertEqual(piece, "tick ")
            break
        with self.assertRaises(errors.GenerationCancelledError):
            response.result(helpers.TIMEOUT_S)
        self.assertEqual(backend.generate_response("x", max_tokens=1), "tick ")

    def test_cancel(self):
        backend = self.backend(pieces=("tick ",), loop=True)
        running, waiting = backend.generate_response_async("x"), backend.generate_response_async("x")
        next(iter(running))
        self.assertTrue(waiting.cancel())  # it waits for its turn
        with self.assertRaises(errors.GenerationCancelledError):
            waiting.result(helpers.TIMEOUT_S)
        with self.assertRaises(TimeoutError):
            backend.generate_response_async("x").result(timeout=0)
        running.cancel()
        running.join()
        with self.assertRaises(errors.GenerationCancelledError):
            running.result()

    def test_unloading_ends_what_runs(self):
        backend = self.backend(pieces=("tick ",), loop=True)
        responses = [backend.generate_response_async("x") for _ in range(3)]
        next(iter(responses[0]), None)
        backend.unload_model()
        for response in responses:
            with self.assertRaises(errors.GenerationCancelledError):
                response.result(helpers.TIMEOUT_S)


class Threads(helpers.PackageTest):
    def test_two_models_and_many_threads(self):
        one = self.backend("one", pieces=("one", " model"))
        two = self.backend("two", pieces=("another", " one"))
        said, lock = [], threading.Lock()

        def ask(backend):
            for _ in range(5):
                answer = backend.generate_response("x")
                with lock:
                    said.append(answer)

        threads = [threading.Thread(target=ask, args=(b,)) for b in (one, two) * 3]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(said), ["another one"] * 15 + ["one model"] * 15)

    def test_several_sequences_at_once(self):
        os.environ["MLX_BATCH_SIZE"] = "3"
        backend = self.backend(pieces=("tick ",), loop=True)
        responses = [backend.generate_response_async("x") for _ in range(3)]
        streams = [iter(r) for r in responses]
        self.assertEqual([next(s) for s in streams], ["tick "] * 3)  # all of them began, and none ends by itself
        for r in responses:
            r.cancel()
            r.join()

    def test_the_gil_is_released(self):
        backend = self.backend(pieces=("tick ",), loop=True)
        response = backend.generate_response_async("x")
        n = 0
        while not response.done() and n < 1000:  # Python goes on while the engine works
            n += 1
        response.cancel()
        self.assertEqual(n, 1000)


class Interrupts(helpers.PackageTest):
    def child(self, code):
        script = "import sys\nsys.path[:0] = %r\nfrom whisperengine.llm.mlx_backend import *\n" % sys.path + code
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_keyboard_interrupt_stops_the_engine(self):
        self.scripted(pieces=("tick ",), loop=True, context=1000000)
        p = self.child("""
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs this in the background ignores it
b = MLXBackend()
assert b.load_model(MLXModelConfig("scripted", max_tokens=0, context=1000000))
try:
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    b.generate_response("x")
except KeyboardInterrupt:
    print("interrupted; then", repr(b.generate_response("x", max_tokens=1)))
""")
        out, err = p.communicate(timeout=helpers.TIMEOUT_S)
        self.assertEqual((out, err, p.returncode), ("interrupted; then 'tick '\n", "", 0))

    def test_the_end_of_the_program_does_not_wait_for_answers(self):
        self.scripted(pieces=("tick ",), loop=True, context=1000000)
        p = self.child("""
import logging
logging.getLogger("whisperengine.llm.mlx_backend").setLevel(5)
b = MLXBackend()
assert b.load_model(MLXModelConfig("scripted", max_tokens=0, context=1000000))
r = b.generate_response_async("x")
next(iter(r))
print("leaving")
""")
        out, err = p.communicate(timeout=helpers.TIMEOUT_S)
        self.assertEqual((out, err, p.returncode), ("leaving\n", "", 0))

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_a_forked_child_loads_its_own(self):
        self.scripted()
        p = self.child("""
import os, sys, warnings
warnings.simplefilter("ignore")
b = MLXBackend()
assert b.load_model(MLXModelConfig("scripted"))
child = os.fork()
if child == 0:
    try:
        b.generate_response("x")
    except Exception as e:
        print(type(e).__name__, flush=True)
    assert b.load_model(MLXModelConfig("scripted"))
    print(b.generate_response("x"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(b.generate_response("x"))
""")
        out, err = p.communicate(timeout=helpers.TIMEOUT_S)
        self.assertEqual((out, p.returncode), ("DeviceError\nHello, world!\nHello, world!\n", 0), err)


class Converting(helpers.PackageTest):
    def test_into_the_models_folder(self):
        helpers.ScriptedModel().save("source")
        with self.assertLogs(LOG, "INFO") as log:
            self.assertIs(convert_model_to_mlx(source_model_path="./source", target_model_name="mine"), True)
        self.assertIn("./models/mlx/mine", log.output[-1])
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(get_default_mlx_model_config("mine")))
            self.assertEqual(backend.generate_response("x"), "Hello, world!")

    def test_quantized(self):
        helpers.ScriptedModel().save("source")
        self.assertTrue(convert_model_to_mlx("source", "mine", quantize=True, q_bits=8))
        with MLXBackend() as backend:
            self.assertTrue(backend.load_model(MLXModelConfig("mine")))
            self.assertIn("8-bit", backend.get_model_info()["quantization"])

    def test_failures_are_false_and_logged(self):
        helpers.ScriptedModel().save("source")
        self.assertTrue(convert_model_to_mlx("source", "taken"))
        for args, says in ((("./nothing", "x"), "nothing"), (("source", "../out"), "../out"), (("source", "taken"), "taken")):
            with self.subTest(args), self.assertLogs(LOG, "ERROR") as log:
                self.assertIs(convert_model_to_mlx(*args), False)
                self.assertIn(says, log.output[-1])
        self.assertTrue(convert_model_to_mlx("source", "taken", overwrite=True))


if __name__ == "__main__":
    unittest.main()
