# SPDX-License-Identifier: Apache-2.0
"""whisperengine backends: what is found, why the others are passed over, and that a foreign or silent server harms nothing."""
from standins import LMStudio, Ollama
from support import EndToEnd, main

NOWHERE = "127.0.0.1:1"  # nothing listens there


class Backends(EndToEnd):
    def backends(self, lmstudio=NOWHERE, ollama=NOWHERE, patient=True, **env):
        """The chain by id. A busy machine may be too late with an answer that is there: then it is asked again."""
        for _ in range(10):
            done = self.run_we("backends", "--json", env={"LMSTUDIO_HOST": lmstudio, "OLLAMA_HOST": ollama, **env})
            chain = done.json()
            if not patient or not any("did not answer within" in b["reason"] for b in chain):
                break
        self.assertEqual([b["id"] for b in chain], ["mlx", "lmstudio", "ollama", "llamacpp", "transformers"])
        self.assertEqual([b["priority"] for b in chain], [1, 2, 3, 4, 5])
        for b in chain:
            self.assertTrue(b["reason"], b)
        return {b["id"]: b for b in chain}

    def test_the_engine_is_always_there(self):
        mlx = self.backends()["mlx"]
        self.assertTrue(mlx["available"])
        self.assertIn("runs on this machine: cpu", mlx["reason"])
        self.assertIn("default", [m["name"] for m in mlx["models"]])

    def test_nothing_listens(self):
        found = self.backends()
        self.assertFalse(found["lmstudio"]["available"] or found["ollama"]["available"])
        self.assertIn(f"LM Studio does not answer at http://{NOWHERE}: start its server", found["lmstudio"]["reason"])
        self.assertIn("ollama serve", found["ollama"]["reason"])

    def test_servers_tell_version_models_and_what_is_loaded(self):
        with Ollama(models=["llama3.2:latest", "qwen3:8b"], loaded=1) as ollama, LMStudio(models=["google/gemma"]) as studio:
            found = self.backends(studio.host, ollama.host)
        self.assertEqual(found["ollama"]["version"], "0.12.3")
        self.assertEqual(found["ollama"]["url"], f"http://{ollama.host}")
        self.assertEqual(found["ollama"]["reason"], "runs, 2 models, 1 loaded")
        self.assertEqual([(m["name"], m["loaded"], m["bytes"]) for m in found["ollama"]["models"]],
                         [("llama3.2:latest", True, 123456789), ("qwen3:8b", False, 123456789)])
        self.assertEqual(found["lmstudio"]["version"], "0.4 or later")
        self.assertEqual([(m["name"], m["context"]) for m in found["lmstudio"]["models"]], [("google/gemma", 4096)])
        self.assertGreater(found["ollama"]["latency_ms"], 0)

    def test_older_lm_studios(self):
        for level, version in (("v0", "0.3.6 or later"), ("openai", None)):
            with LMStudio(models=["a", "b"], loaded=1, level=level) as studio:
                found = self.backends(studio.host)["lmstudio"]
            self.assertTrue(found["available"], found)
            self.assertEqual(found["version"], version)
            self.assertEqual([m["name"] for m in found["models"]], ["a", "b"])
            self.assertEqual(found["models"][0]["loaded"], level == "v0")

    def test_a_silent_server_is_not_waited_for(self):
        with Ollama(silent_s=60) as ollama:
            found = self.backends(ollama=ollama.host, patient=False)["ollama"]
        self.assertFalse(found["available"])
        self.assertIn("did not answer within 300 ms", found["reason"])

    def test_something_else_answers_there(self):
        page = "<!DOCTYPE html><html><head><title>Router</title></head><body>\x1b[2J Log in</body></html>"
        with Ollama(body=page) as a, LMStudio(body="\x00\xff nonsense") as b:
            found = self.backends(b.host, a.host)
        self.assertIn('answers something that is not its interface: "Router \\x1b[2J Log in"', found["ollama"]["reason"])
        self.assertFalse(found["lmstudio"]["available"])

    def test_a_token_goes_to_a_local_lm_studio(self):
        with LMStudio(key="sesame") as studio:
            refused = self.backends(studio.host)["lmstudio"]
            wrong = self.backends(studio.host, LM_API_TOKEN="other")["lmstudio"]
            right = self.backends(studio.host, LM_API_TOKEN="sesame")["lmstudio"]
        self.assertIn("LM_API_TOKEN", refused["reason"])
        self.assertIn("does not accept this API key", wrong["reason"])
        self.assertNotIn("other", wrong["reason"])
        self.assertTrue(right["available"], right)

    def test_a_token_does_not_go_to_ollama(self):
        with Ollama() as ollama:
            self.backends(ollama=ollama.host, LM_API_TOKEN="sesame")
        self.assertTrue(ollama.requests)
        for request in ollama.requests:
            self.assertNotIn("authorization", request.headers)

    def test_a_wrong_variable_is_a_reason(self):
        found = self.backends(ollama="host:port")["ollama"]
        self.assertIn("OLLAMA_HOST=host:port: expected host:port", found["reason"])

    def test_as_a_table(self):
        with Ollama(models=[f"model-{i}\x1b[31m" for i in range(20)]) as ollama:
            env = {"LMSTUDIO_HOST": NOWHERE, "OLLAMA_HOST": ollama.host}
            shown = self.run_we("backends", env=env).text
            every = self.run_we("backends", "--all", env=env).text
        self.assertNotIn("\x1b", shown)
        self.assertIn("1  MLX", shown)
        self.assertIn("and 12 more (--all)", shown)
        self.assertIn("model-19", every)


if __name__ == "__main__":
    main()
