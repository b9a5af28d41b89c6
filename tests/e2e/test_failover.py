# SPDX-License-Identifier: Apache-2.0
"""run and chat over other backends: servers that die in mid-answer, refuse, talk nonsense or lack the model, and who answers in
their place."""
import os
import shutil
import signal
import time

from standins import LMStudio, Ollama, OpenAI
from support import CTRL_C, CTRL_D, EndToEnd, Terminal, main

NOBODY = {"OLLAMA_HOST": "127.0.0.1:1", "LMSTUDIO_HOST": "127.0.0.1:1"}
ANSWER = ["The sky", " is blue", " because of", " scattering."]


def goes_on(messages):
    """A server that continues a last message of the assistant's, and else begins."""
    said = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    assert "".join(ANSWER).startswith(said), messages
    return ["".join(ANSWER)[len(said):]]


class Failover(EndToEnd):
    def env(self, url, **hosts):
        return {**NOBODY, "LLM_CHAT_API_URL": url, **{k: v.host for k, v in hosts.items()}}

    def test_an_answer_from_each_kind(self):
        for kind, scheme in ((Ollama, "ollama"), (LMStudio, "lmstudio")):
            with kind(models=["m"], pieces=["a<|im_", "end|>b"]) as s:
                done = self.run_we("run", "-v", "--model", f"{scheme}://m@{s.host}", "hi", env=NOBODY)
                self.assertEqual(done.text, "ab\n")
                self.assertIn(f"answered by {s.name}, model m", done.notes)
        with OpenAI(models=["m"]) as s:
            got = self.run_we("run", "--json", "--model", f"{s.url}/v1#m", "hi", env=NOBODY).json()
            self.assertEqual((got["text"], got["model"], got["failovers"]), ("Hello, world!", "m", 0))

    def test_a_server_that_dies_in_mid_answer_is_continued_by_the_next(self):
        kinds = [(OpenAI, "{url}/v1#qwen3:8b"), (Ollama, "ollama://qwen3:8b@{host}"), (LMStudio, "lmstudio://qwen3:8b@{host}")]
        for kind, url in kinds:
            with self.subTest(kind=kind.name), kind(models=["qwen3:8b"], pieces=ANSWER, cut_after=3) as first, \
                    Ollama(models=["qwen3:8b"], answer=goes_on) as second:
                done = self.run_we("run", "why?", env=self.env(url.format(url=first.url, host=first.host), OLLAMA_HOST=second))
                self.assertEqual(done.text, "".join(ANSWER) + "\n")
                self.assertIn("broke off in the middle of its answer", done.notes)
                self.assertIn("Ollama goes on with qwen3:8b", done.notes)
                asked = second.answers()[-1].json["messages"]
                self.assertEqual([m["role"] for m in asked], ["user", "assistant"])
                self.assertEqual(asked[0]["content"], "why?")

    def test_an_echoed_beginning_is_dropped(self):
        with OpenAI(models=["m"], pieces=ANSWER, cut_after=3) as first, Ollama(models=["m"], pieces=ANSWER) as second:
            done = self.run_we("run", "why?", env=self.env(f"{first.url}/v1#m", OLLAMA_HOST=second))
            self.assertEqual(done.text, "".join(ANSWER) + "\n")

    def test_who_begins_anew_instead_of_going_on(self):
        said = ["The sky is blue by day because", " of the", " air"]
        anew = ["The sky is blue by day because its", " light is scattered."]
        with Ollama(models=["m"], pieces=said, cut_after=3) as first, LMStudio(models=["m"], pieces=anew, level="v1") as second:
            env = {**self.env(f"ollama://m@{first.host}"), "LMSTUDIO_HOST": second.host}
            done = self.run_we("run", "--json", "why?", env=env)
            self.assertEqual(done.json()["text"], "".join(anew), "one answer")
            self.assertIs(done.json()["restarted"], True)
            self.assertEqual(done.json()["backend"], "LM Studio")
            self.assertIn("LM Studio does not go on: it begins the answer anew", done.notes)

    def test_where_the_next_cannot_continue_a_note_marks_the_cut(self):
        # Its template keeps nothing of what was said, so there is no place to go on from.
        self.scripted("here", pieces=["another", " answer"], template="{{ messages | length }}<|assistant|>")
        with OpenAI(models=["m"], pieces=ANSWER, cut_after=3) as first:
            env = {**self.env(f"{first.url}/v1#m"), "FALLBACK_MODEL_MLX": "here", "MLX_TEMPERATURE": "0"}
            done = self.run_we("run", "--json", "why?", env=env)
            self.assertEqual((done.json()["text"], done.json()["restarted"]), ("another answer", True))
            self.assertIn("MLX goes on with here", done.notes)
            self.assertIn("MLX begins the answer anew with here", done.notes)
            done = self.run_we("run", "why?", env=env)
            self.assertTrue(done.text.startswith("The sky is blue"), "what was said stays on the screen")
            self.assertTrue(done.text.endswith("another answer\n"))
            # The chat's history has the new answer alone.
            self.run_we("chat", stdin="why?\n", env=env)
            with OpenAI(models=["m"]) as then:
                self.run_we("chat", "--continue", stdin="and?\n", env=self.env(f"{then.url}/v1#m"))
                self.assertEqual([(m["role"], m["content"]) for m in then.answers()[-1].json["messages"]],
                                 [("user", "why?"), ("assistant", "another answer"), ("user", "and?")])

    def test_a_server_that_is_not_there_is_not_waited_for(self):
        log = ("--log", "client=info")
        with Ollama(models=["m"]) as s:
            done = self.run_we("run", *log, "hi", env=self.env("http://127.0.0.1:1/v1#m", OLLAMA_HOST=s))
            self.assertEqual(done.text, "Hello, world!\n")
            self.assertNotIn("asked again", done.notes)
            done = self.run_we("run", *log, "hi", env=self.env("http://nowhere.invalid/v1#m", OLLAMA_HOST=s))
            self.assertEqual(done.text, "Hello, world!\n")
            self.assertNotIn("asked again", done.notes)
        done = self.fails("run", *log, "hi", env=self.env("http://127.0.0.1:1/v1#m"), says="Nobody else could answer")
        self.assertEqual(done.notes.count("asked again"), 1, "where nobody else is there")
        self.fails("run", *log, "--no-failover", "hi", env=self.env("http://127.0.0.1:1/v1#m"), says="asked again")

    def test_a_model_that_does_not_load(self):
        broken = self.scripted("broken")
        with open(os.path.join(broken, "model.safetensors"), "r+b") as f:
            f.truncate(1000)
        self.scripted("whole")
        with Ollama(models=["broken", "whole"]) as s:
            for name, more, reason in (("broken", {}, "model.safetensors"), ("gone", {"FALLBACK_MODEL_OLLAMA": "whole"}, "Model path does not exist"),
                                       ("whole", {"MLX_MEMORY_POOL_SIZE": "1"}, "Out of memory during model loading")):
                for command in (("run", "hi"), ("chat",)):
                    with self.subTest(name=name, command=command):
                        env = {**self.env(f"mlx://{name}", OLLAMA_HOST=s), **more}
                        done = self.run_we(*command, stdin="hi\n" if command == ("chat",) else "", env=env)
                        self.assertEqual(done.text, "Hello, world!\n")
                        self.assertIn(reason, done.notes)
                        self.assertIn("Ollama answers with", done.notes)

    def test_the_chat_keeps_its_history(self):
        said = lambda messages: [f"{len(messages)} messages"]
        with OpenAI(models=["m"], answer=said) as first, Ollama(models=["m"], answer=said) as second:
            with OpenAI(models=["m"], pieces=["one two three", " four"], cut_after=2) as cut:
                done = self.run_we("chat", stdin="a\nb\n", env=self.env(f"{cut.url}/v1#m", OLLAMA_HOST=second))
                self.assertEqual(len(done.text.splitlines()), 2)
                asked = second.answers()[-1].json["messages"]
                self.assertEqual([m["role"] for m in asked], ["user", "assistant", "user"])
                self.assertEqual(asked[2]["content"], "b")
            self.assertEqual(self.run_we("chat", stdin="a\nb\nc\n", env=self.env(f"{first.url}/v1#m")).text,
                             "1 messages\n3 messages\n5 messages\n")

    def test_to_the_engine(self):
        self.scripted("here", pieces=["local answer"])
        env = {**self.env("ollama://gone@127.0.0.1:1"), "FALLBACK_MODEL_MLX": "here"}
        done = self.run_we("run", "--temperature", "0", "hi", env=env)
        self.assertEqual(done.text, "local answer\n")
        self.assertIn("MLX answers with here", done.notes)
        done = self.fails("run", "--no-failover", "hi", env=env, says="Ollama does not answer at http://127.0.0.1:1")
        self.assertNotIn("MLX", done.notes)

    def test_from_the_engine(self):
        with Ollama(models=["llama3.1:8b"]) as s:
            done = self.run_we("run", "hi", env=self.env("mlx://llama-3.1-8b-instruct", OLLAMA_HOST=s))
            self.assertEqual(done.text, "Hello, world!\n")
            self.assertIn("Ollama answers with llama3.1:8b", done.notes)

    def test_reasons_for_passing_over(self):
        with Ollama(models=["other"]) as s:
            self.fails("run", "hi", env=self.env("http://127.0.0.1:1/v1#qwen3-8b", OLLAMA_HOST=s),
                       says=["127.0.0.1:1", "Nobody else could answer", "MLX: does not have", "LM Studio does not answer",
                             "Ollama: does not have qwen3:8b", "FALLBACK_MODEL_OLLAMA"])
            env = {**self.env("http://127.0.0.1:1/v1#qwen3-8b", OLLAMA_HOST=s), "FALLBACK_MODEL_OLLAMA": "other"}
            self.assertEqual(self.run_we("run", "hi", env=env).text, "Hello, world!\n")

    def test_the_users_own_table_of_models(self):
        self.write("home/.config/whisperengine/models.json", '{"mine": {"mlx": "./models/mlx/here", "ollama": "mine:7b"}}')
        self.scripted("here", pieces=["local answer"])
        with Ollama(models=["mine:7b"]) as s:
            done = self.run_we("run", "-v", "hi", env=self.env("lmstudio://mine@127.0.0.1:1", OLLAMA_HOST=s))
            self.assertEqual(done.text, "local answer\n", "a short name of the user's leads to a folder")
            self.assertIn("answered by MLX", done.notes)
            done = self.run_we("run", "hi", env=self.env("http://127.0.0.1:1/v1#here", OLLAMA_HOST=s))
            self.assertEqual(done.text, "local answer\n")
            found = {b["id"]: b for b in self.run_we("backends", "--json", "--model", "mine", env=self.env("mlx://mine", OLLAMA_HOST=s)).json()}
            self.assertEqual(found["mlx"]["answers_with"], "here")
            if found["ollama"]["available"]:  # a busy machine may be too late
                self.assertEqual(found["ollama"]["answers_with"], "mine:7b")
            shutil.rmtree(os.path.join(self.models, "mlx", "here"))
            done = self.run_we("run", "hi", env=self.env("mlx://mine", OLLAMA_HOST=s))
            self.assertIn("Ollama answers with mine:7b", done.notes)

    def test_a_broken_table_of_models_is_the_reason(self):
        self.write("home/.config/whisperengine/models.json", '{"mine": {"olama": "mine:7b"}}')
        says = ["models.json: \"mine\" has a key \"olama\"; expected mlx, lmstudio, ollama"]
        with Ollama(models=["mine:7b"]) as s:
            self.fails("run", "hi", env=self.env("http://127.0.0.1:1/v1#mine", OLLAMA_HOST=s), says=says)
        self.fails("run", "--no-failover", "--model", "mine", "hi", env=NOBODY, says=says)
        self.fails("pull", "mine", says=says)
        self.fails("recommend", says=says)
        done = self.run_we("doctor", "--json", env=NOBODY).json()
        self.assertEqual([f["verdict"] for f in done["findings"] if "olama" in f["finding"]], ["warning"])
        self.run_we("run", "--max-tokens", "1", "hi", env=NOBODY)  # the built-in model needs no table

    def test_wrong_model_name(self):
        self.scripted("llama-3.2-mine")
        self.fails("run", "--model", "llama-3.2-mien", "hi", env=NOBODY, says='Did you mean "llama-3.2-mine"')
        self.fails("run", "--no-failover", "--model", "phi-3-mini", "hi", env=NOBODY, says="`whisperengine pull phi-3-mini` fetches it")
        self.fails("pull", "phi-3-mimi", says='did you mean "phi-3-mini"')
        with Ollama(models=["llama3.2:3b"]) as s:
            self.fails("run", "--model", f"ollama://llama3.2:4b@{s.host}", "hi", env=NOBODY, says='did you mean "llama3.2:3b"?')

    def test_answers_that_are_none(self):
        for kw, says in (({"body": "<html><b>Welcome</b></html>"}, "Welcome"), ({"body": "{}", "content_type": "application/json"}, "choices")):
            with OpenAI(models=["m"], **kw) as s:
                self.fails("run", "--model", f"{s.url}/v1#m", "hi", env=NOBODY, says=says)

    def test_keys_stay_with_their_host(self):
        with OpenAI(models=["m"], key="s3cret") as first, Ollama(models=["m"]) as second:
            env = {**self.env(f"{first.url}/v1#m", OLLAMA_HOST=second), "LLM_CHAT_API_KEY": "s3cret"}
            self.assertEqual(self.run_we("run", "hi", env=env).text, "Hello, world!\n")
            self.assertEqual(len(second.requests), 0)
            env["LLM_CHAT_API_KEY"] = "wr0ng"
            done = self.run_we("run", "--log", "debug", "hi", env=env)
            self.assertIn("does not accept this API key", done.notes)
            self.assertIn("Ollama answers", done.notes)
            self.assertNotIn("wr0ng", done.notes)
            self.assertTrue(second.requests and all("authorization" not in r.headers for r in second.requests))

    def test_what_a_server_repeats_stays_out_of_the_log(self):
        with OpenAI(models=["m"], status=500, body='{"error": {"message": "cannot answer: my secret prompt"}}') as s:
            done = self.fails("run", "--log", "debug", "--no-failover", "--model", f"{s.url}/v1#m", "my secret prompt", env=NOBODY, says="asked again")
            self.assertFalse([line for line in done.notes.splitlines() if line.startswith("[") and "secret" in line], done)

    def test_usage(self):
        self.fails("run", "hi", env=self.env("gopher://x"), says=["LLM_CHAT_API_URL", "gopher", "expected mlx://NAME"])
        self.fails("run", "hi", "--model", "http://user:pw@host/v1", env=NOBODY, says="user and password")

    def test_a_cancelled_request_ends(self):
        with OpenAI(models=["m"], wait_s=600) as s:
            t = Terminal(self, "chat", "--model", f"{s.url}/v1#m", env=NOBODY)
            t.prompt()
            t.type("hi\r")
            while not s.answers():
                time.sleep(0.02)
            at = len(t.shown)
            t.type(CTRL_C)
            t.prompt(at)
            self.assertIn(b"(stopped)", t.shown)
            self.assertIn("model m", t.line("/stats"))
            t.type(CTRL_D)
            t.end()


if __name__ == "__main__":
    main()
