# SPDX-License-Identifier: Apache-2.0
"""`config`: values and where they come from; ./.env that is not to be trusted; the user's file."""
import os
import re

from standins import Ollama
from support import SOURCE_DIR, EndToEnd, Terminal, main


class Config(EndToEnd):
    def values(self, **kw):
        return {v["name"]: v for v in self.run_we("config", "--json", **kw).json()}

    def user_file(self):
        return os.path.join(self.home, ".config", "whisperengine", "env")

    def test_sources(self):
        self.write(".env", "MLX_TOP_P=0.2\nMLX_TEMPERATURE=0.4\nSOMETHING=else\n")
        self.run_we("config", "set", "MLX_TEMPERATURE=0.5", "MLX_MAX_TOKENS=7")
        done = self.run_we("config", env={"MLX_TOP_P": "0.1"})
        self.assertIn("./.env sets MLX_TEMPERATURE\n", done.notes)
        values = self.values(env={"MLX_TOP_P": "0.1"})
        got = {n: (values[n]["value"], values[n]["source"]) for n in ("MLX_TOP_P", "MLX_TEMPERATURE", "MLX_MAX_TOKENS", "WE_LOG")}
        self.assertEqual(got, {"MLX_TOP_P": ("0.1", "environment"), "MLX_TEMPERATURE": ("0.4", "./.env"),
                               "MLX_MAX_TOKENS": ("7", "user"), "WE_LOG": (None, "default")})
        self.assertEqual(values["MLX_MAX_TOKENS"]["path"], self.user_file())
        self.assertNotIn("SOMETHING", values)

    def test_set_and_unset(self):
        self.run_we("config", "set", "LLM_CHAT_API_KEY=s3cret")
        self.assertEqual(os.stat(self.user_file()).st_mode & 0o777, 0o600)
        self.assertEqual(self.values()["LLM_CHAT_API_KEY"]["value"], "********")
        self.assertNotIn("s3cret", self.run_we("config", "-v").text)
        self.run_we("config", "unset", "LLM_CHAT_API_KEY")
        self.assertIsNone(self.values()["LLM_CHAT_API_KEY"]["value"])
        self.fails("config", "set", "MLX_TOP_P=3", says=["MLX_TOP_P", "'3'", "0 to 1"])
        self.fails("config", "set", "PATH=3", says="PATH is not a variable of ours")
        self.fails("config", "set", "HF_HOME=/x", says="only in the environment")
        self.usage("config", "set", "nonsense", says="NAME=VALUE")
        self.usage("config", "remove", says="expected set")
        self.run_we("config", "set", "MLX_TOP_P=0.5")
        self.assertIn("the environment comes first", self.run_we("config", "set", "MLX_TOP_P=0.6", env={"MLX_TOP_P": "1"}).notes)

    def test_files_act(self):
        self.scripted("loop", loop=True, pieces=["ab", "cd"])
        self.write(".env", 'MLX_MODEL_NAME="loop"\nMLX_MAX_TOKENS=3\nMLX_TEMPERATURE=0\n')
        self.assertEqual(self.run_we("run", "hi").text, "abcdab\n")
        self.write(".env", "MLX_MODEL_NAME=loop\nMLX_TEMPERATURE=hot\n")
        self.usage("run", "hi", says=["MLX_TEMPERATURE", "'hot'", "./.env", "0 to 100"])
        self.write(".env", "WE_LOG=loud\n")
        self.usage("list", says=["WE_LOG", "'loud'", "./.env"])

    def test_a_dotenv_that_others_write(self):
        os.chmod(self.write(".env", "MLX_TOP_P=0.2\n"), 0o666)
        done = self.run_we("config", "--json")
        self.assertIn("./.env is not read: others may write to it", done.notes)
        self.assertIsNone(self.values()["MLX_TOP_P"]["value"])

    def test_a_dotenv_that_is_a_link(self):
        os.symlink(self.write("elsewhere", "MLX_TOP_P=0.2\n"), os.path.join(self.dir, ".env"))
        done = self.run_we("config")
        self.assertIn("./.env is not read: it is a link", done.notes)
        self.assertIsNone(self.values()["MLX_TOP_P"]["value"])
        os.remove(os.path.join(self.dir, ".env"))
        os.symlink(self.write("elsewhere", "OTHER=1\n"), os.path.join(self.dir, ".env"))
        self.assertEqual(self.run_we("config").notes, "", "a link that is not about us is nobody's business")

    def test_a_dotenv_that_leads_away(self):
        self.write(".env", "LLM_CHAT_API_URL=https://198.51.100.1/v1\n")
        value = self.values()["LLM_CHAT_API_URL"]
        self.assertEqual((value["value"], value["refused"]), (None, "https://198.51.100.1/v1"))
        for command in ("run", "chat"):
            self.fails(command, stdin="hi", says=["LLM_CHAT_API_URL", "another machine", "config set"])

    def test_a_dotenv_that_leads_away_is_asked_about(self):
        self.write(".env", "LLM_CHAT_API_URL=http://we-test.invalid/v1#m\n")
        for answer, says in (("n", "was not followed"), ("y", "we-test.invalid")):
            t = Terminal(self, "run", "--no-failover", "hi")
            at = t.expect("which is not this machine. Follow it? [y/N] ")
            t.type(answer + "\r")
            t.expect(says, at)
            t.end(1)

    def test_memory_pool(self):
        self.scripted("small")
        need = {"MLX_MEMORY_POOL_SIZE": "1"}
        self.fails("run", "-m", "small", "hi", env=need, says=["Out of memory during model loading", "needs", "limit is 1.05 MB",
                                                                "MLX_MEMORY_POOL_SIZE"])
        self.run_we("run", "-m", "small", "hi", env={"MLX_MEMORY_POOL_SIZE": "2000"})
        self.usage("run", "-m", "small", "hi", env={"MLX_MEMORY_POOL_SIZE": "lots"}, says=["'lots'", "1 to 16777216"])

    def test_quantization(self):
        self.scripted("plain", pieces=["same answer"])
        env = {"MLX_QUANTIZATION": "true"}
        for _ in range(2):  # the second run finds it
            done = self.run_we("run", "-v", "-m", "plain", "--temperature", "0", "hi", env=env)
            self.assertEqual(done.text, "same answer\n")
            self.assertIn("4-bit affine", done.notes)
        kept = os.listdir(os.path.join(self.home, ".cache", "whisperengine", "quantized"))
        self.assertEqual(len(kept), 1)
        self.assertNotIn("4-bit", self.run_we("run", "-v", "-m", "plain", "hi", env={"MLX_QUANTIZATION": "off"}).notes)
        self.fails("run", "-m", "plain", "hi", env={"MLX_QUANTIZATION": "perhaps"}, says=["MLX_QUANTIZATION", "true or false"])

    def test_how_the_model_runs(self):
        def notes(*args, **env):
            return self.run_we("run", "-v", "--max-tokens", "2", *args, "hi", env=env).notes
        self.assertIn("at a context of 300 tokens", notes(MLX_CONTEXT_LENGTH="300"))
        self.assertIn("at a context of 200 tokens", notes("--context", "200", MLX_CONTEXT_LENGTH="300"))
        self.assertIn("at a context of", notes(MLX_CONTEXT_LENGTH="2000000000"), "a wish: the model's own at most")
        kv = [re.search(r"KV cache ([\d.]+ \w+)", notes(MLX_KV_BITS=bits)).group(1) for bits in ("16", "4")]
        self.assertNotEqual(*kv)
        self.assertIn("1 threads", notes(MLX_THREADS="1"))
        self.assertIn("kernels reference", notes(MLX_KERNELS="reference"))
        for name, value, says in (("MLX_CONTEXT_LENGTH", "0", "1 to 2147483647"), ("MLX_KV_BITS", "5", "16, 8 or 4"),
                                  ("MLX_THREADS", "many", "1 to 1024"), ("MLX_KERNELS", "fast", "neon or neoni8mm"),
                                  ("MLX_PROMPT_LOOKUP", "perhaps", "true or false")):
            done = self.run_we("run", "hi", env={name: value}, status=None)
            self.assertNotEqual(done.status, 0, name)
            for part in (f"{name} is '{value}' (environment): expected", says):
                self.assertIn(part, done.notes)
        self.fails("config", "set", "MLX_UNLOAD_MINUTES=0", says=["MLX_UNLOAD_MINUTES is '0' (the new value)", "1 to 100000"])

    def test_what_guesses_tokens(self):
        self.scripted("loop", loop=True, pieces=["ab", "cd"])
        copy = self.scripted("copy", loop=True, pieces=["ab", "cd"])
        ask = ("run", "--json", "--max-tokens", "24", "--temperature", "0", "hi")
        for url in ({"MLX_MODEL_NAME": "loop"}, {"LLM_CHAT_API_URL": "mlx://loop"}):   # a session of the command's own, and a client's
            self.assertEqual(self.run_we(*ask, env=url).json()["drafted_tokens"], 0)
            self.assertGreater(self.run_we(*ask, env={**url, "MLX_PROMPT_LOOKUP": "yes"}).json()["drafted_tokens"], 0)
            self.assertGreater(self.run_we(*ask, env={**url, "MLX_DRAFT_MODEL": copy}).json()["drafted_tokens"], 0)
            self.assertEqual(self.run_we(*ask, env={**url, "MLX_DRAFT_MODEL": "loop"}).json()["drafted_tokens"], 0)
            done = self.run_we(*ask, env={**url, "MLX_DRAFT_MODEL": "default"})
            self.assertIn("MLX_DRAFT_MODEL is left out: ", done.notes)
            self.assertIn("vocabularies differ", done.notes)
            self.assertIn("MLX_DRAFT_MODEL is left out: Model path", self.run_we(*ask, env={**url, "MLX_DRAFT_MODEL": "no"}).notes)

    def test_the_chain(self):
        nobody = {"OLLAMA_HOST": "127.0.0.1:1", "LMSTUDIO_HOST": "127.0.0.1:1"}
        ids = [b["id"] for b in self.run_we("backends", "--json", env={**nobody, "FALLBACK_CHAIN": "transformers, mlx"}).json()]
        self.assertEqual(ids, ["transformers", "mlx", "lmstudio", "ollama", "llamacpp"])
        for value, says in (("ollama,ollama", "each once"), ("mlx,gpt", "names out of mlx, lmstudio")):
            for command in (("backends",), ("run", "hi")):
                env = {**nobody, "FALLBACK_CHAIN": value, "LLM_CHAT_API_URL": "mlx://default"}
                done = self.run_we(*command, env=env, status=None)
                self.assertNotEqual(done.status, 0)
                self.assertIn(f"FALLBACK_CHAIN is '{value}' (environment): expected", done.notes)
                self.assertIn(says, done.notes)
        with Ollama(models=["shared"]) as first:
            env = {"OLLAMA_HOST": first.host, "LMSTUDIO_HOST": "127.0.0.1:1", "LLM_CHAT_API_URL": "http://127.0.0.1:1/v1#shared",
                   "FALLBACK_MODEL_MLX": "default"}
            self.assertEqual(self.run_we("run", "--json", "hi", env=env).json()["backend"], "MLX")
            env["FALLBACK_CHAIN"] = "ollama"
            self.assertEqual(self.run_we("run", "--json", "hi", env=env).json()["backend"], "Ollama")

    def test_batch_size(self):
        self.scripted("small")
        args = ("bench", "-m", "small", "-p", "0", "-n", "4", "-r", "1", "--json")
        self.assertEqual(self.run_we(*args, env={"MLX_BATCH_SIZE": "3"}).json()["batch"], 3)
        self.assertEqual(self.run_we(*args, "--batch", "2", env={"MLX_BATCH_SIZE": "3"}).json()["batch"], 2)
        self.usage(*args, env={"MLX_BATCH_SIZE": "17"}, says=["MLX_BATCH_SIZE", "1 to 16"])

    def test_setup(self):
        self.scripted("mine")
        with Ollama(models=["llama3.1:8b"]) as s:
            env = {"OLLAMA_HOST": s.host, "LMSTUDIO_HOST": "127.0.0.1:1"}
            got = {v["name"]: v["value"] for v in self.run_we("setup", "--json", env=env).json()}
            self.assertEqual(got["LLM_CHAT_API_URL"], "mlx://mine")
            self.assertFalse(os.path.exists(self.user_file()), "only a preview")
            self.assertNotIn("MLX_MODEL_NAME", self.run_we("setup", env={**env, "MLX_MODEL_NAME": "x"}).text)
            self.run_we("setup", "--write", env=env)
            self.assertEqual(self.values()["LLM_CHAT_API_URL"]["value"], "mlx://mine")
            self.assertIn("set already", self.run_we("setup", env=env).notes)
            os.remove(self.user_file())
            self.write(".env", "# mine\nMLX_TOP_P=0.5\n")
            self.run_we("setup", "--write", "--dotenv", env=env)
            with open(os.path.join(self.dir, ".env")) as f:
                self.assertTrue(f.read().startswith("# mine\nMLX_TOP_P=0.5\nLLM_CHAT_API_URL=mlx://mine\n"))
            self.assertFalse(os.path.exists(self.user_file()))

    def test_setup_takes_the_most_suitable_model(self):
        for name in ("a-small-one", "z-small-one"):
            self.scripted(name)
        env = {"OLLAMA_HOST": "127.0.0.1:1", "LMSTUDIO_HOST": "127.0.0.1:1"}
        def proposed(**more):
            done = self.run_we("setup", "--json", env={**env, **more})
            return {v["name"]: v["value"] for v in done.json()}
        best = [m for m in self.run_we("recommend", "--json").json()["models"] if m["recommended"]]
        if best:
            self.assertIn("`whisperengine pull", self.run_we("setup", env=env).notes)
            self.scripted(best[0]["name"])
            self.assertEqual(proposed()["LLM_CHAT_API_URL"], f"mlx://{best[0]['name']}")
            self.assertNotIn("whisperengine pull", self.run_we("setup", env=env).notes)
        self.assertEqual(proposed(MLX_MODEL_NAME="mine"), {"LLM_CHAT_API_URL": "mlx://mine"}, "what is chosen already is kept")
        with Ollama(models=["a:1b", "b:1b"]) as s:
            s.loaded.add("b:1b")
            for _ in range(10):  # a busy machine may be too late with the answer
                got = proposed(OLLAMA_HOST=s.host).get("FALLBACK_MODEL_OLLAMA")
                if got:
                    break
            self.assertEqual(got, "b:1b", "one in memory first")

    def test_the_documentation_lists_the_table(self):
        with open(os.path.join(SOURCE_DIR, "docs", "configuration.md"), encoding="utf-8") as f:
            rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", f.read(), re.M)
        table = [(v["name"], v["range"], v["default"] or "not set", v["help"]) for v in self.run_we("config", "--json").json()]
        self.assertEqual(rows, table, "docs/configuration.md is out of date")


if __name__ == "__main__":
    main()
