# SPDX-License-Identifier: Apache-2.0
"""llama-cpp-python and Transformers: their packages found without being imported, their servers started, watched, restarted and
never left behind. The packages are stand-ins (pyservers.py); Python, the look at the packages and the supervisor are real."""
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

from pyservers import Packages
from standins import Ollama, OpenAI
from support import CTRL_C, CTRL_D, PROGRAM, EndToEnd, Terminal, main

KINDS = (("llamacpp", "llama-cpp-python"), ("transformers", "Transformers"))
ANSWER = ["The sky", " is blue", " because of", " scattering."]


class Servers(EndToEnd):
    def packages(self, *args, **kw):
        packages = Packages(self.dir, *args, **kw)
        self.addCleanup(lambda: self.assertEqual(packages.wait_gone(), [], "a server was left behind"))
        return packages

    def run_model(self, packages, kind, *args, **kw):
        env = {**packages.env, **kw.pop("env", {})}
        return self.run_we("run", "--model", packages.url(kind), *args, "hi", env=env, **kw)

    def fails_at(self, packages, kind, *args, says, env=None):
        return self.fails("run", "--no-failover", "--model", packages.url(kind), *args, "hi", env={**packages.env, **(env or {})},
                          says=says)

    def logs(self):
        folder = os.path.join(self.home, ".cache", "whisperengine", "logs")
        if not os.path.isdir(folder):
            folder = os.path.join(self.home, "Library", "Caches", "whisperengine", "logs")
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))

    # ---- Found ----

    def backends(self, packages, **env):
        for _ in range(20):  # a busy machine may be too late
            chain = self.run_we("backends", "--json", env={**packages.env, **env}).json()
            if not any("did not answer within" in b["reason"] for b in chain[3:]):
                break
        return {b["id"]: b for b in chain}

    def test_packages_are_found_and_not_imported(self):
        packages = self.packages()
        os.makedirs(os.path.join(self.home, ".lmstudio", "models", "org", "Tiny-GGUF"))
        with open(packages.gguf, "rb") as f:
            gguf = f.read()
        with open(os.path.join(self.home, ".lmstudio", "models", "org", "Tiny-GGUF", "tiny.gguf"), "wb") as f:
            f.write(gguf)
        self.scripted("here", pieces=["word"])
        found = self.backends(packages)
        self.assertTrue(found["llamacpp"]["available"], found["llamacpp"])
        self.assertEqual(found["llamacpp"]["version"], "0.3.99")
        self.assertEqual([m["name"] for m in found["llamacpp"]["models"]], ["org/Tiny-GGUF/tiny.gguf"])
        self.assertIn(", 1 GGUF file", found["llamacpp"]["reason"])
        self.assertTrue(found["transformers"]["available"], found["transformers"])
        self.assertEqual(found["transformers"]["version"], "5.99.0")
        self.assertNotIn("default", [m["name"] for m in found["transformers"]["models"]], "MLX's packed weights")
        self.assertFalse(packages.imported)
        self.assertEqual(packages.starts, [])

    def test_what_is_missing_is_told_with_its_mend(self):
        install = {"llamacpp": "-m pip install 'llama-cpp-python[server]'", "transformers": "-m pip install 'transformers[serving]'"}
        for how, says in (({"packages": ()}, "is not installed (looked in"),
                          ({"without": ("fastapi", "uvicorn")}, "but not what its server needs (uvicorn, fastapi)")):
            found = self.backends(self.packages(**how))
            for kind, name in KINDS:
                # the Python that runs these tests may have the real ones: then what is found is theirs
                if not found[kind]["available"]:
                    self.assertIn(says, found[kind]["reason"])
                    self.assertIn(install[kind], found[kind]["reason"])
        found = self.backends(self.packages(old=True))
        self.assertIn("5.99.0 in", found["transformers"]["reason"])
        self.assertIn("has no `transformers serve`", found["transformers"]["reason"])
        self.assertIn("-m pip install -U 'transformers[serving]'", found["transformers"]["reason"])
        self.assertIn("has no server", found["llamacpp"]["reason"])

    def test_a_slow_python_is_not_waited_for(self):
        packages = self.packages(slow_s=100)
        chain = self.run_we("backends", "--json", env=packages.env).json()
        for b in chain[3:]:
            self.assertFalse(b["available"])
            self.assertIn("did not answer within 300 ms; ask again", b["reason"])

    def test_odd_pythons(self):
        packages = self.packages()
        for script, says in (("echo '{\"python\": 7}'", "gives no answer of a Python"), ("printf '\\033[2J<b>no</b>'", "\\x1b[2J no"),
                             ("exit 3", "gives no answer")):
            odd = os.path.join(self.dir, "odd")
            with open(odd, "w") as f:
                f.write(f"#!/bin/sh\n{script}\n")
            os.chmod(odd, 0o755)
            found = self.backends(packages, PATH="/nonexistent", WE_PYTHON=odd)
            self.assertIn(says, found["llamacpp"]["reason"])
        found = self.backends(packages, PATH="/nonexistent", WE_PYTHON="")
        self.assertIn("no Python was found", found["transformers"]["reason"])
        found = self.backends(packages, PATH=".", WE_PYTHON="")
        self.assertIn("no Python was found", found["transformers"]["reason"])

    def test_the_virtual_environments_python_comes_first(self):
        packages = self.packages()
        venv = os.path.join(self.dir, "venv")
        os.makedirs(os.path.join(venv, "bin"))
        os.symlink(sys.executable, os.path.join(venv, "bin", "python3"))
        found = self.backends(packages, VIRTUAL_ENV=venv)
        self.assertIn(os.path.join(venv, "bin", "python3"), found["llamacpp"]["reason"])

    def test_modules_of_the_current_folder_are_nobodys_packages(self):
        packages = self.packages(packages=("llama_cpp",), pieces=["fine"])
        trap = os.path.join(self.dir, "trap")
        for name in ("transformers", "llama_cpp"):
            os.makedirs(os.path.join(trap, name))
            with open(os.path.join(trap, name, "__init__.py"), "w") as f:
                f.write(f"open({os.path.join(trap, 'sprung')!r}, 'w')\n")
        self.assertEqual(self.run_model(packages, "llamacpp", cwd=trap).text, "fine\n")
        self.assertEqual(packages.starts[0]["cwd"], "/")
        self.assertFalse(os.path.exists(os.path.join(trap, "sprung")))

    def test_what_doctor_and_setup_say(self):
        packages = self.packages()
        env = {**packages.env, "LLM_CHAT_API_URL": packages.url("llamacpp")}
        told = {f["area"]: f for f in self.run_we("doctor", "--json", env=env).json()["findings"]}
        self.assertEqual(told["chat model"]["verdict"], "ok", told["chat model"])
        self.assertIn("llama-cpp-python is installed and starts with the first question", told["chat model"]["finding"])
        self.assertEqual(packages.starts, [])
        packages = self.packages(without=("uvicorn",))
        told = {f["area"]: f for f in self.run_we("doctor", "--json", env=env).json()["findings"]}
        if told["chat model"]["verdict"] != "ok":  # the real ones may be there
            self.assertIn("not what its server needs (uvicorn)", told["chat model"]["finding"])
            self.assertIn("pip install 'llama-cpp-python[server]'", told["chat model"]["finding"])

    def test_a_dotenv_names_no_program(self):
        packages = self.packages()
        self.write(".env", f"WE_PYTHON={sys.executable}\n")
        done = self.run_we("backends", "--json", env={**packages.env, "PATH": "/nonexistent", "WE_PYTHON": ""})
        self.assertIn("no Python was found", done.json()[3]["reason"])
        self.assertIn("WE_PYTHON", done.notes)

    # ---- Answers ----

    def test_an_answer_from_each(self):
        for kind, name in KINDS:
            packages = self.packages(pieces=["a<|im_", "end|>b"])
            done = self.run_model(packages, kind, "-v")
            self.assertEqual(done.text, "ab\n")
            self.assertIn(f"answered by {name}, model {packages.url(kind).split('://')[1]}", done.notes)
            self.assertEqual(packages.wait_gone(0), [], "it ends with the command")
            self.assertEqual(len(packages.starts), 1)

    def test_how_it_is_started(self):
        secrets = {"OPENAI_API_KEY": "s3cret", "HF_TOKEN": "s3cret", "LM_API_TOKEN": "s3cret", "LLM_CHAT_API_KEY": "s3cret",
                   "HOST": "0.0.0.0", "PORT": "1", "CONFIG_FILE": "/etc/passwd"}
        for kind, _ in KINDS:
            packages = self.packages()
            done = self.run_model(packages, kind, "--log", "trace", env=secrets)
            start = packages.starts[0]
            argv, env = start["argv"], start["env"]
            at = argv.index("--host")
            self.assertEqual(argv[at + 1], "127.0.0.1")
            self.assertNotIn("s3cret", json.dumps(start))
            self.assertEqual(start["pid"], start["group"])
            for request in packages.notes("request"):
                self.assertIn(f":{argv[argv.index('--port') + 1]}", request["headers"]["host"])
            if kind == "llamacpp":
                key = env["API_KEY"]
                self.assertRegex(key, "^[0-9a-f]{64}$")
                self.assertNotIn(key, " ".join(argv))
                self.assertNotIn(key, done.notes)
                self.assertTrue(all(r["headers"]["authorization"] == f"Bearer {key}" for r in packages.notes("request")))
                for name in ("HOST", "PORT", "CONFIG_FILE"):
                    self.assertNotIn(name, env)
                self.assertEqual(argv[argv.index("--model") + 1], packages.gguf)
            else:
                self.assertTrue(all("authorization" not in r["headers"] for r in packages.notes("request")))
                for flag in ("--enable-cors", "--trust-remote-code"):
                    self.assertNotIn(flag, argv)
                self.assertEqual(env["HF_HUB_OFFLINE"], "1")
                self.assertEqual(packages.answers[0]["model"], packages.model)
            log = self.logs()[-1]
            self.assertEqual(stat.S_IMODE(os.stat(log).st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(log)).st_mode), 0o700)
            with open(log) as f:
                said = f.read()
            self.assertIn("Uvicorn running on", said)
            self.assertNotIn("s3cret", said)

    def test_options_reach_the_server(self):
        options = ["--max-tokens", "7", "--temperature", "0.5", "--top-p", "0.9", "--top-k", "20", "--min-p", "0.1",
                   "--repetition-penalty", "1.25", "--seed", "3", "--stop", "END"]
        packages = self.packages()
        self.run_model(packages, "llamacpp", *options, "--context", "512")
        sent = packages.answers[0]
        for key, value in (("max_tokens", 7), ("temperature", 0.5), ("top_p", 0.9), ("top_k", 20), ("min_p", 0.1),
                           ("repeat_penalty", 1.25), ("seed", 3), ("stop", ["END"]), ("stream", True)):
            self.assertEqual(sent[key], value)
        argv = packages.starts[0]["argv"]
        self.assertEqual(argv[argv.index("--n_ctx") + 1], "512")
        packages = self.packages()
        self.run_model(packages, "transformers", *options)
        sent = packages.answers[0]
        self.assertLessEqual(set(sent), {"model", "stream", "messages", "max_tokens", "temperature", "top_p", "seed", "stop",
                                         "generation_config"}, "another field is refused by it")
        self.assertEqual(json.loads(sent["generation_config"]),
                         {"do_sample": True, "max_new_tokens": 7, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.25})

    def test_stop_texts_are_taken_out_where_a_server_leaves_them(self):
        packages = self.packages(pieces=["one ", "E", "N", "two E", "ND"])
        self.assertEqual(self.run_model(packages, "transformers", "--stop", "END").text, "one ENtwo \n")
        packages = self.packages(pieces=["one", " EN"])
        self.assertEqual(self.run_model(packages, "transformers", "--stop", "END").text, "one EN\n")

    def test_a_chat_keeps_one_server(self):
        for kind, _ in KINDS:
            packages = self.packages(pieces=["yes"])
            done = self.run_we("chat", "--model", packages.url(kind), stdin="a\nb\nc\n", env=packages.env)
            self.assertEqual(done.text, "yes\nyes\nyes\n")
            self.assertEqual(len(packages.starts), 1)
            self.assertEqual(len(packages.answers[-1]["messages"]), 5)

    def test_wrong_models(self):
        packages = self.packages()
        studio = os.path.join(self.home, ".lmstudio", "models", "tales", "fox")
        os.makedirs(studio)
        shutil.copy(packages.gguf, os.path.join(studio, "little.gguf"))
        self.scripted("little-river")
        for url, says in ((f"llamacpp://{packages.model}", "is no GGUF file"), ("llamacpp://nothing", 'there is no GGUF file "nothing"; `'),
                          ("llamacpp://tales/fox/litle.gguf", 'did you mean "tales/fox/little.gguf"; `'),
                          ("transformers://litle-river", 'did you mean "little-river"; `'),
                          (f"transformers://{packages.gguf}", "no folder with a config.json"),
                          ("transformers://default", ["is quantized for MLX", "convert --dequantize"]),
                          ("transformers://org/none", 'there is no model folder "org/none"')):
            self.fails("run", "--no-failover", "--model", url, "hi", env=packages.env, says=says)
        self.assertEqual(packages.starts, [])

    # ---- Trouble at the start ----

    def test_death_at_the_start_shows_its_last_lines(self):
        for kind, name in KINDS:
            packages = self.packages(how={"says": ["loading", "no \x1b[31msuch\x07 tensor"], "exit": 3})
            done = self.fails_at(packages, kind, says=[f"{name}'s server ended at its start (exit status 3)", "Its last lines:",
                                                       "no \\x1b[31msuch\\x07 tensor", "Its log: "])
            self.assertNotIn("\x1b[31m", done.notes)
            self.assertEqual(len(packages.starts), 1, "that is not tried again")

    def test_a_port_that_was_taken_is_another_one_next_time(self):
        packages = self.packages(how={"taken": True}, pieces=["there"])
        self.assertEqual(self.run_model(packages, "llamacpp").text, "there\n")
        ports = [s["argv"][s["argv"].index("--port") + 1] for s in packages.starts]
        self.assertEqual(len(set(ports)), 2)

    def test_nothing_is_sent_before_the_server_said_that_it_listens(self):
        """Somebody else may be on that port. So a server that answers and does not say so is not asked."""
        packages = self.packages(how={"ready": False})
        process = subprocess.Popen([PROGRAM, "run", "--no-failover", "--model", packages.url("llamacpp"), "hi"], cwd=self.dir,
                                   env=self.environment(**packages.env), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        packages.wait_for("start")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertEqual(packages.notes("request"), [])

    def test_garbage_on_its_output(self):
        packages = self.packages(how={"says": ["\x00\ufffd garbage", "x" * 100000, "", "pid 1", "ready", "ended exit status 0"]},
                                 pieces=["fine"])
        self.assertEqual(self.run_model(packages, "transformers").text, "fine\n")

    def test_its_log_is_bounded(self):
        packages = self.packages(how={"flood": True}, pieces=["fine"])
        self.assertEqual(self.run_model(packages, "transformers").text, "fine\n")
        self.assertLess(os.path.getsize(self.logs()[-1]), 1 << 20)

    def test_old_logs_go(self):
        packages = self.packages()
        self.run_model(packages, "llamacpp")
        first = self.logs()[0]
        for day in range(1, 20):
            with open(os.path.join(os.path.dirname(first), f"llamacpp-202001{day:02}T000000Z-1-0.log"), "w"):
                pass
        self.run_model(packages, "llamacpp")
        self.assertEqual(len(self.logs()), 8)
        self.assertIn(first, self.logs())
        self.assertEqual(len({s["env"]["API_KEY"] for s in packages.starts}), 2, "each start has a key of its own")

    # ---- Trouble later ----

    def test_death_before_the_first_word_starts_it_again_once(self):
        for kind, name in KINDS:
            packages = self.packages(how={"die_at": 0, "once": True}, pieces=["again"])
            self.assertEqual(self.run_model(packages, kind).text, "again\n")
            self.assertEqual(len(packages.starts), 2)
            packages = self.packages(how={"die_at": 0}, pieces=["never"])
            self.fails_at(packages, kind, says=f"{name}'s server ended in the middle of its answer (signal 9)")
            self.assertEqual(len(packages.starts), 2)

    def test_death_in_mid_answer_fails_over_and_the_next_question_finds_it_again(self):
        for kind, name in KINDS:
            packages = self.packages(how={"die_at": 2}, pieces=ANSWER)
            with Ollama(models=["other"], answer=lambda messages: ["".join(ANSWER)[len(messages[-1]["content"]):]]) as ollama:
                env = {**packages.env, "OLLAMA_HOST": ollama.host, "FALLBACK_MODEL_OLLAMA": "other",
                       "LLM_CHAT_API_URL": packages.url(kind)}
                done = self.run_we("run", "why?", env=env)
                self.assertEqual(done.text, "".join(ANSWER) + "\n")
                self.assertIn(f"{name}'s server ended in the middle of its answer (signal 9)", done.notes)
                self.assertIn("Ollama goes on with other", done.notes)
                asked = ollama.answers()[-1].json["messages"]
                self.assertEqual(asked[-1], {"role": "assistant", "content": "".join(ANSWER[:2])})

    def test_failing_over_to_each(self):
        for kind, name in KINDS:
            packages = self.packages(packages=("llama_cpp",) if kind == "llamacpp" else ("transformers",), pieces=ANSWER)
            model = packages.url(kind).split("://")[1]
            with OpenAI(models=["m"], pieces=ANSWER, cut_after=3) as first:
                env = {**packages.env, "LLM_CHAT_API_URL": f"{first.url}/v1#m", f"FALLBACK_MODEL_{kind.upper()}": model}
                done = self.run_we("run", "--json", "why?", env=env)
            self.assertEqual(done.json()["text"], "".join(ANSWER))
            self.assertEqual(done.json()["backend"], name)
            self.assertIn("broke off in the middle of its answer", done.notes)

    def test_odd_answers(self):
        for server, says in (({"body": "<html>no</html>"}, "does not answer as one"),):
            packages = self.packages(**server)
            if server.get("body"):
                packages.set({}, status=500, **server)
            self.fails_at(packages, "transformers", says=says)
        packages = self.packages(error_in_stream="out of \x1b[1mmemory", pieces=["a", "b"])
        self.fails("run", "--no-failover", "--model", packages.url("llamacpp"), "--json", "hi", env=packages.env, says="memory")

    # ---- Nothing is left behind ----

    def start(self, packages, kind):
        process = subprocess.Popen([PROGRAM, "run", "--no-failover", "--model", packages.url(kind), "hi"], cwd=self.dir,
                                   env=self.environment(**packages.env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_killed(self):
        """Also a server that ignores SIGTERM, and the processes that it has started itself."""
        for kind, _ in KINDS:
            for how in ({"hang": True, "helper": True, "stubborn": True}, {"helper": True}):
                packages = self.packages(how=how, wait_s=600)
                process = self.start(packages, kind)
                packages.wait_for("helper")
                packages.wait_for("start" if how.get("hang") else "request")
                self.assertEqual(len(packages.living()), 2)
                process.kill()
                process.wait()
                self.assertEqual(packages.wait_gone(), [])

    def test_its_supervisor_killed(self):
        if not os.path.isdir("/proc/self"):
            self.skipTest("/proc tells who its parent is")
        packages = self.packages(wait_s=600)
        process = self.start(packages, "llamacpp")
        packages.wait_for("request", 2)
        pid = packages.starts[0]["pid"]
        with open(f"/proc/{pid}/stat") as f:
            os.kill(int(f.read().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        packages.wait_for("start", 2)  # died before a word was said
        process.kill()
        self.assertEqual(packages.wait_gone(), [])

    def test_ctrl_c(self):
        for kind, _ in KINDS:
            packages = self.packages(wait_s=600)
            t = Terminal(self, "chat", "--model", packages.url(kind), env=packages.env)
            t.prompt()
            t.type("hi\r")
            packages.wait_for("request", 2)
            at = len(t.shown)
            t.type(CTRL_C)
            t.prompt(at)
            self.assertIn(b"(stopped)", t.shown)
            self.assertEqual(len(packages.living()), 1, "Ctrl-C stops the answer, not the server")
            t.type(CTRL_D)
            t.end()
            self.assertEqual(packages.wait_gone(0), [])

    def test_ctrl_c_at_its_start(self):
        packages = self.packages(how={"hang": True, "stubborn": True})
        t = Terminal(self, "chat", "--model", packages.url("transformers"), env=packages.env)
        t.prompt()
        t.type("hi\r")
        packages.wait_for("start")
        at = len(t.shown)
        t.type(CTRL_C)
        t.prompt(at)
        self.assertEqual(packages.wait_gone(), [])
        t.type(CTRL_D)
        t.end()

    def test_an_interrupted_run(self):
        packages = self.packages(how={"helper": True}, wait_s=600)
        process = self.start(packages, "llamacpp")
        packages.wait_for("request", 2)
        process.send_signal(signal.SIGINT)
        process.wait()
        self.assertEqual(packages.wait_gone(), [])


if __name__ == "__main__":
    main()
