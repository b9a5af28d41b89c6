# SPDX-License-Identifier: Apache-2.0
"""run, generate, logits, bench, perplexity: answers, figures, stopping, repeating, writing."""
import math
import os
import signal
import struct
import subprocess

from support import ASSISTANT, DEFAULT_MODEL, END, FIRST_PIECE, HIDDEN, PROGRAM, TIMEOUT_S, VOCAB, EndToEnd, main


def read_npy(path):
    """(shape, rows) of a float32 matrix."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    n = struct.unpack("<H", data[8:10])[0]
    assert (10 + n) % 64 == 0, "the data begin at a multiple of 64"
    header = eval(data[10:10 + n].decode("ascii"), {})  # as numpy reads it
    assert header["descr"] == "<f4" and header["fortran_order"] is False, header
    rows, columns = header["shape"]
    body = data[10 + n:]
    assert len(body) == 4 * rows * columns, (len(body), header)
    return header["shape"], [struct.unpack_from(f"<{columns}f", body, 4 * columns * i) for i in range(rows)]


class Run(EndToEnd):
    def test_answers_on_standard_output(self):
        model = self.scripted()
        done = self.run_we("run", "--model", model, "hi")
        self.assertEqual(done.out, b"Hello, world!\n")
        self.assertEqual(done.err, b"", f"nothing else is said{done}")

    def test_where_the_prompt_comes_from(self):
        model = self.scripted(template="{% for m in messages %}{{ raise_exception('<' ~ m.role ~ ':' ~ m.content ~ '>') }}{% endfor %}")
        self.fails("run", "-m", model, "a", "b c", says="<user:a b c>")
        self.fails("run", "-m", model, stdin="from a pipe\n", says="<user:from a pipe>")
        self.fails("run", "-m", model, "sum up:", stdin="x\ny\n", says="<user:sum up:\n\nx\ny>")
        self.fails("run", "-m", model, "--system", "be kind", "a", says="<system:be kind>")
        self.fails("run", "-m", model, "--", "--help", says="<user:--help>")

    def test_no_prompt(self):
        self.fails("run", "-m", self.scripted(), stdin="", says="prompt is empty")
        self.fails("run", "-m", self.scripted(), stdin="a\0b", says="NUL")

    def test_an_idle_pipe_does_not_hold_up_a_prompt(self):
        r, w = os.pipe()
        try:
            p = subprocess.run([PROGRAM, "run", "-m", self.scripted(), "hi"], stdin=r, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=self.environment(), cwd=self.dir, timeout=TIMEOUT_S)
        finally:
            os.close(r)
            os.close(w)
        self.assertEqual((p.returncode, p.stdout), (0, b"Hello, world!\n"))

    def test_json(self):
        done = self.run_we("run", "-m", self.scripted(), "--json", "--seed", "18446744073709551615", "hi")
        answer = done.json()
        self.assertEqual(answer["text"], "Hello, world!")
        self.assertEqual(answer["finish_reason"], "eos")
        self.assertEqual(answer["generated_tokens"], 4)
        self.assertEqual(answer["tokens"], [FIRST_PIECE + i for i in range(4)])
        self.assertEqual(answer["prompt_tokens"], len(["<|user|>", "h", "i", "<|end|>", "<|assistant|>"]))
        self.assertEqual(answer["seed"], 18446744073709551615)
        for key in ("prefill_s", "decode_s", "time_to_first_token_s", "prompt_tokens_per_second",
                    "generation_tokens_per_second", "cached_tokens"):
            self.assertGreaterEqual(answer[key], 0, key)
        self.assertEqual(done.out.count(b"\n"), 1, "one object on one line")

    def test_control_characters_are_shown_escaped(self):
        pieces = ["a\x1b[31m", "\x07b", "\x7f\u009b", "\u202ec\u2066", "\td\n", "\u00e9\u4e16\r"]
        done = self.run_we("run", "-m", self.scripted(pieces=pieces), "hi")
        self.assertEqual(done.text, "a\\x1b[31m\\x07b\\x7f\\u009b\\u202ec\\u2066\td\n\u00e9\u4e16\\x0d\n")

    def test_characters_over_several_tokens_come_whole(self):
        rocket = "\U0001f680".encode()
        pieces = [b"x" + rocket[:1], rocket[1:3], rocket[3:] + b"!"]
        self.assertEqual(self.run_we("run", "-m", self.scripted(pieces=pieces), "hi").text, "x\U0001f680!\n")

    def test_stop_strings(self):
        pieces = ["Hel", "lo wo", "rld, ", "STO", "P here"]
        model = self.scripted(pieces=pieces)
        for stop, expected in ((["o w"], "Hell"), (["STOP"], "Hello world, "), (["x", "world", "lo"], "Hel"), (["zzz"], "".join(pieces))):
            args = [x for s in stop for x in ("--stop", s)]
            done = self.run_we("run", "-m", model, *args, "hi")
            self.assertEqual(done.text, expected + "\n", str(done))
            answer = self.run_we("run", "-m", model, *args, "--json", "hi").json()
            self.assertEqual(answer["text"], expected)
            self.assertEqual(answer["finish_reason"], "eos" if stop == ["zzz"] else "stop")

    def test_max_tokens_and_the_environment(self):
        model = self.scripted(pieces=["a1", "b2", "c3", "d4"])
        self.assertEqual(self.run_we("run", "-m", model, "--max-tokens", "2", "hi").text, "a1b2\n")
        env = {"MLX_MAX_TOKENS": "3", "MLX_TEMPERATURE": "0", "MLX_TOP_P": "0.9"}
        self.assertEqual(self.run_we("run", "-m", model, "hi", env=env).text, "a1b2c3\n")
        self.assertEqual(self.run_we("run", "-m", model, "--max-tokens=1", "hi", env=env).text, "a1\n")
        self.assertEqual(self.run_we("run", "-m", model, "--max-tokens=1", "hi", env={"MLX_MAX_TOKENS": "bad"}).text, "a1\n")
        answer = self.run_we("run", "-m", model, "--max-tokens", "2", "--json", "hi").json()
        self.assertEqual(answer["finish_reason"], "length")

    def test_verbose_tells_figures_on_standard_error(self):
        done = self.run_we("run", "-m", self.scripted(), "-v", "hi")
        self.assertEqual(done.out, b"Hello, world!\n")
        for word in ("tokens/s", "weights", "kernels"):
            self.assertIn(word, done.notes)

    def test_a_prompt_longer_than_the_context(self):
        model = self.scripted()
        self.fails("run", "-m", model, "--context", "64", "x" * 100, says="64")
        self.fails("run", "-m", model, "--json", "--context", "64", "x" * 100, says="64")

    def test_ctrl_c_keeps_what_there_was(self):
        model = self.scripted(pieces=["on ", "and "], loop=True, context=100000)
        p = subprocess.Popen([PROGRAM, "run", "-m", model, "--context", "100000", "hi"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(), cwd=self.dir)
        first = p.stdout.read(10)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=TIMEOUT_S)
        out = first + out
        self.assertEqual(p.returncode, 130, (out[-100:], err))
        self.assertTrue(out.startswith(b"on and on "), out[:100])
        self.assertTrue(out.endswith(b"\n"), out[-100:])

    def test_a_reader_that_leaves(self):
        model = self.scripted(pieces=["on ", "and "], loop=True, context=100000)
        p = subprocess.Popen([PROGRAM, "run", "-m", model, "--context", "100000", "hi"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(), cwd=self.dir)
        p.stdout.read(10)
        p.stdout.close()
        err = p.stderr.read()
        p.stderr.close()
        p.wait(TIMEOUT_S)
        self.assertEqual(err, b"", "it ends quietly")
        self.assertNotEqual(p.returncode, 0)

    def test_a_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("this system has no /dev/full")
        model = self.scripted()
        for args in (["run", "-m", model, "hi"], ["run", "-m", model, "--json", "hi"], ["info", model], ["list"]):
            with open("/dev/full", "wb") as full:
                p = subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                                   env=self.environment(), cwd=self.dir, timeout=TIMEOUT_S)
            self.assertEqual(p.returncode, 1, (args, p.stderr))
            self.assertIn(b"standard output", p.stderr)


class Generate(EndToEnd):
    def setUp(self):
        super().setUp()
        self.model = self.scripted()
        self.ids = [FIRST_PIECE + i for i in range(4)]

    def test_guessed_tokens_change_nothing(self):
        said = "WhisperEngine runs language models locally. It is one command, one C library and one desktop app. "
        ask = ("generate", "--prompt", f"Repeat exactly: {said}{said[:64]}", "--max-tokens", "40", "--json", "--seed", "1")
        plain = self.run_we(*ask).json()
        self.assertEqual(plain["drafted_tokens"], 0)
        for options in (["--prompt-lookup"], ["--draft-model", "default"], ["--prompt-lookup", "--draft-model", "default"]):
            guessed = self.run_we(*ask, *options).json()
            self.assertEqual(guessed["text"], plain["text"], options)
            self.assertGreater(guessed["accepted_tokens"], 0, options)
        self.fails("generate", "--prompt", "x", "--draft-model", "nowhere", says="Model path does not exist")
        other = self.scripted()
        self.fails("generate", "--prompt", "x", "--draft-model", other, says="vocabularies differ")

    def test_tokens_in_tokens_out(self):
        done = self.run_we("generate", "-m", self.model, "--prompt-tokens", f"1,2,{ASSISTANT}", "--output-tokens")
        self.assertEqual(done.out, (",".join(map(str, self.ids)) + "\n").encode(), str(done))

    def test_text_is_exact(self):
        done = self.run_we("generate", "-m", self.model, "--prompt", "x<|assistant|>")
        self.assertEqual(done.out, b"Hello, world!", "no newline is added, no template is used")

    def test_without_a_tokenizer(self):
        model = self.scripted("bare", tokenizer=False)
        # Its ids are mere numbers: none of them ends the answer.
        args = ["generate", "-m", model, "--prompt-tokens", str(ASSISTANT), "--max-tokens", str(len(self.ids))]
        done = self.run_we(*args, "--output-tokens")
        self.assertEqual(done.out, (",".join(map(str, self.ids)) + "\n").encode())
        answer = self.run_we(*args, "--json").json()
        self.assertEqual((answer["tokens"], answer["text"]), (self.ids, None))
        self.fails("generate", "-m", model, "--prompt", "x", says=["no tokenizer", "--prompt-tokens"])

    def test_json(self):
        answer = self.run_we("generate", "-m", self.model, "--prompt-tokens", f"{ASSISTANT}", "--json").json()
        self.assertEqual((answer["text"], answer["tokens"], answer["finish_reason"]), ("Hello, world!", self.ids, "eos"))
        self.assertEqual((answer["prompt_tokens"], answer["generated_tokens"]), (1, 4))

    def test_ignore_eos(self):
        args = ["generate", "-m", self.model, "--prompt-tokens", ASSISTANT, "--max-tokens", "8"]
        self.assertEqual(len(self.run_we(*args, "--json").json()["tokens"]), 4)
        tokens = self.run_we(*args, "--ignore-eos", "--json").json()["tokens"]
        self.assertEqual(tokens[:5], [*self.ids, END])
        self.assertEqual(len(tokens), 8)

    def sample(self, *args):
        return self.run_we("generate", "-m", self.model, "--prompt", "abc", "--max-tokens", "12", "--ignore-eos", "--json",
                           *args).json()

    def test_seeds_repeat(self):
        first = self.sample("--temperature", "1", "--seed", "7")
        self.assertEqual(self.sample("--temperature", "1", "--seed", "7")["tokens"], first["tokens"])
        others = [self.sample("--temperature", "1", "--seed", s)["tokens"] for s in ("8", "9", "10")]
        self.assertTrue(any(o != first["tokens"] for o in others), "other seeds give other answers")

    def test_without_a_seed_the_one_taken_is_told(self):
        first = self.sample("--temperature", "1")
        self.assertEqual(self.sample("--temperature", "1", "--seed", str(first["seed"]))["tokens"], first["tokens"])

    def test_greedy_by_default(self):
        model = self.scripted("warm", generation_config={"temperature": 5.0, "do_sample": True})
        run = lambda: self.run_we("generate", "-m", model, "--prompt", "abc", "--max-tokens", "8", "--output-tokens",
                                  env={"MLX_TEMPERATURE": "3"}).out
        self.assertEqual(run(), run())

    def test_top_k_1_is_greedy(self):
        greedy = self.run_we("generate", "-m", self.model, "--prompt-tokens", ASSISTANT, "--output-tokens").out
        warm = self.run_we("generate", "-m", self.model, "--prompt-tokens", ASSISTANT, "--output-tokens", "--temperature", "9",
                           "--top-k", "1").out
        self.assertEqual(warm, greedy)

    def test_ids_out_of_range(self):
        self.fails("generate", "-m", self.model, "--prompt-tokens", f"1,{VOCAB}", says=str(VOCAB))
        self.fails("logits", "-m", self.model, "--tokens", f"1,{VOCAB}", "--output", "x.npy", says=str(VOCAB))
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith("x.npy")], [], "nothing is left behind")

    def test_kernels_and_devices(self):
        done = self.run_we("generate", "-m", self.model, "--prompt-tokens", ASSISTANT, "--output-tokens", "--kernels",
                           "reference", "--device", "cpu", "--threads", "1", "--precise", "--kv-bits", "16")
        self.assertEqual(done.text.strip(), ",".join(map(str, self.ids)))
        for option, value in (("--kernels", "frobnicate"), ("--device", "frobnicate")):
            done = self.run_we("generate", "-m", self.model, "--prompt-tokens", "1", option, value, status=None)
            self.assertIn(done.status, (1, 2), str(done))
            self.assertIn(value, done.notes)


class Logits(EndToEnd):
    def test_a_row_for_every_position(self):
        model = self.scripted()
        tokens = [5, 97, ASSISTANT, FIRST_PIECE, END]
        for extra in ([], ["--precise"]):
            done = self.run_we("logits", "-m", model, "--tokens", ",".join(map(str, tokens)), "--output", "out.npy", *extra)
            self.assertEqual(done.out, b"")
            shape, rows = read_npy(os.path.join(self.dir, "out.npy"))
            self.assertEqual(shape, (len(tokens), VOCAB))
            self.assertTrue(all(math.isfinite(x) for row in rows for x in row))
            peak = 4.0 * math.sqrt(HIDDEN)
            for t, row in zip(tokens, rows):
                following = {ASSISTANT: FIRST_PIECE, FIRST_PIECE: FIRST_PIECE + 1}.get(t)
                if following is None:
                    self.assertLess(max(abs(x) for x in row), 1e-3, f"after token {t} all are equal")
                else:
                    self.assertEqual(max(range(VOCAB), key=row.__getitem__), following)
                    self.assertAlmostEqual(row[following] / peak, 1.0, delta=0.02)

    def test_json_says_what_was_written(self):
        done = self.run_we("logits", "-m", self.scripted(), "--tokens", "1,2", "--output", "out.npy", "--json")
        self.assertEqual(done.json(), {"output": "out.npy", "tokens": 2, "vocab_size": VOCAB})

    def test_files_that_cannot_be_written(self):
        model = self.scripted()
        self.fails("logits", "-m", model, "--tokens", "1", "--output", "missing/out.npy", says="missing/out.npy")
        if os.path.exists("/dev/full"):
            self.fails("logits", "-m", model, "--tokens", "1", "--output", "/dev/full", says="/dev/full")

    def test_an_old_file_stays_when_the_new_one_fails(self):
        path = self.write("out.npy", "old")
        self.fails("logits", "-m", self.scripted(), "--tokens", f"1,{VOCAB}", "--output", path, says="")
        with open(path) as f:
            self.assertEqual(f.read(), "old")


class Measure(EndToEnd):
    def test_bench_json(self):
        done = self.run_we("bench", "-m", self.scripted(), "-p", "16", "-n", "4", "-r", "2", "-d", "8", "-t", "1", "--json")
        b = done.json()
        self.assertEqual(set(b), {
            "model", "device", "device_detail", "kernels", "threads", "depth", "batch", "prompt_tokens", "generated_tokens",
            "prompt_tokens_per_second", "generation_tokens_per_second", "time_to_first_token_s", "load_s",
            "peak_resident_bytes", "weights_bytes", "weight_bytes_read_per_token", "memory_bytes_per_second",
            "multiply_adds_per_second", "prompt_share_of_multiply_adds", "generation_share_of_memory"}, str(done))
        self.assertEqual((b["threads"], b["depth"], b["batch"], b["prompt_tokens"], b["generated_tokens"]), (1, 8, 1, 16, 4))
        for key in ("prompt_tokens_per_second", "generation_tokens_per_second", "time_to_first_token_s"):
            self.assertEqual(len(b[key]), 2, key)
            self.assertTrue(all(x > 0 for x in b[key]), (key, b[key]))
        for key in ("load_s", "peak_resident_bytes", "weights_bytes", "weight_bytes_read_per_token", "memory_bytes_per_second",
                    "multiply_adds_per_second"):
            self.assertGreater(b[key], 0, key)
        for key in ("prompt_share_of_multiply_adds", "generation_share_of_memory"):
            self.assertEqual(len(b[key]), 2, key)
            self.assertTrue(all(x > 0 for x in b[key]), (key, b[key]))
        self.assertLessEqual(b["weight_bytes_read_per_token"], b["weights_bytes"])

    def test_bench_of_one_test(self):
        model = self.scripted()
        b = self.run_we("bench", "-m", model, "-p", "0", "-n", "4", "-r", "1", "--json").json()
        self.assertEqual((b["prompt_tokens_per_second"], b["time_to_first_token_s"], b["prompt_share_of_multiply_adds"]), ([], [], []))
        self.assertEqual(len(b["generation_tokens_per_second"]), 1)
        b = self.run_we("bench", "-m", model, "-p8", "-n=0", "-r1", "--json").json()
        self.assertEqual(b["generation_tokens_per_second"], [])
        self.assertEqual(len(b["prompt_tokens_per_second"]), 1)

    def test_bench_batch(self):
        b = self.run_we("bench", "-m", self.scripted(), "-p", "0", "-n", "4", "-r", "1", "--batch", "3", "--json").json()
        self.assertEqual(b["batch"], 3)

    def test_bench_table(self):
        done = self.run_we("bench", "-m", self.scripted(), "-p", "8", "-n", "4", "-r", "1")
        self.assertRegex(done.text, r"(?m)^prompt +\d")
        self.assertRegex(done.text, r"(?m)^generation +\d.*% of reading memory$")
        self.assertRegex(done.text, r"(?m)^this machine, measured now: [\d.]+ GB/s read from memory, \d+ G int8 multiply-adds/s$")

    def test_bench_beyond_the_context(self):
        self.fails("bench", "-m", self.scripted(context=64), "-p", "128", "-n", "0", says="64")

    def test_perplexity(self):
        model = self.scripted()
        path = self.write("text.txt", "the quick brown fox jumps over the lazy dog. " * 20)
        done = self.run_we("perplexity", "-m", model, "--file", path, "--context", "64", "--json")
        p = done.json()
        self.assertEqual(set(p), {"perplexity", "perplexity_error", "tokens", "context"})
        self.assertEqual(p["context"], 64)
        self.assertGreater(p["tokens"], 100)
        self.assertAlmostEqual(p["perplexity"] / VOCAB, 1.0, delta=0.01, msg="all tokens are equally likely after a byte")
        self.assertIn("perplexity", self.run_we("perplexity", "-m", model, "--file", path, "--context", "64").text)

    def test_perplexity_beside_a_base(self):
        model = self.scripted()
        path = self.write("text.txt", "the quick brown fox jumps over the lazy dog. " * 20)
        args = ("perplexity", "-m", model, "--file", path, "--context", "64", "--kl-base")
        c = self.run_we(*args, "precise", "--json").json()
        self.assertEqual(c["base"], "precise")
        self.assertAlmostEqual(c["perplexity_ratio"], 1, delta=0.01)
        self.assertLess(c["kld"]["mean"], 0.01)
        self.assertLessEqual(c["kld"]["median"], c["kld"]["max"])
        self.assertLessEqual(c["top1_agreement"], 1)
        self.assertEqual(set(c["kld"]), {"mean", "error", "median", "p90", "p95", "p99", "p99_9", "max"})
        self.assertIn("KL divergence", self.run_we(*args, model).text)
        self.fails(*args, "no-such-model", says="no-such-model")
        self.fails(*args, DEFAULT_MODEL, says="different tokens")

    def test_perplexity_of_too_little(self):
        self.fails("perplexity", "-m", self.scripted(), "--file", self.write("t.txt", "short"), says="")
        self.fails("perplexity", "-m", self.scripted(), "--file", "missing.txt", says="missing.txt")


if __name__ == "__main__":
    main()
