# SPDX-License-Identifier: Apache-2.0
"""Every kind of the chain answers, dies in the middle of an answer, and is followed by every other one."""
import json
import os
import subprocess

from pyservers import Packages
from standins import LMStudio, Ollama, OpenAI
from support import PROGRAM, EndToEnd, main

CHAIN = ("mlx", "lmstudio", "ollama", "llamacpp", "transformers")
NAMES = {"mlx": "MLX", "lmstudio": "LM Studio", "ollama": "Ollama", "llamacpp": "llama-cpp-python", "transformers": "Transformers",
         "openai": "OpenAI-style server"}
SERVERS = {"lmstudio": LMStudio, "ollama": Ollama, "openai": OpenAI}
CHILDREN = {"llamacpp": "llama_cpp", "transformers": "transformers"}
ANSWER = ["The sky is blue", " by day", " because of", " scattering."]


class Pairs(EndToEnd):
    def run_pair(self, first, following):
        """The first dies in mid-answer, only the other is there besides; gives what the command left."""
        env = {"LMSTUDIO_HOST": "127.0.0.1:1", "OLLAMA_HOST": "127.0.0.1:1", "MLX_TEMPERATURE": "0"}
        urls = {"mlx": "mlx://cut"}
        fallback = {"mlx": "whole"}
        kinds = [k for k in (first, following) if k in CHILDREN]
        packages = Packages(self.dir, packages=[CHILDREN[k] for k in kinds], pieces=ANSWER,
                            how={"die_at": 3, "once": True} if first in CHILDREN else {})
        env.update(packages.env)
        for k in kinds:
            urls[k] = packages.url(k)
            fallback[k] = urls[k].split("://")[1]
        for k in {first, following} & set(SERVERS):
            s = SERVERS[k](models=["m"], pieces=ANSWER, cut_after=3 if k == first else None)
            s.__enter__()
            self.addCleanup(s.__exit__, None, None, None)
            urls[k] = f"{s.url}/v1#m" if k == "openai" else f"{k}://m@{s.host}"
            fallback[k] = "m"
            if k != "openai":
                env[f"{k.upper()}_HOST"] = s.host
        if following == "mlx":
            self.scripted("whole", pieces=ANSWER)
        env["LLM_CHAT_API_URL"] = urls[first]
        env[f"FALLBACK_MODEL_{following.upper()}"] = fallback[following]
        if first == "mlx":
            return self.cut_short(env)
        done = self.run_we("run", "--json", "--max-tokens", "40", "why?", env=env, status=None)
        self.assertEqual(packages.wait_gone(), [])
        return done.status, done.text, done.notes

    def cut_short(self, env):
        """Our own engine dies with its weights: the file becomes shorter while it answers."""
        model = self.scripted("cut", pieces=ANSWER, loop=True, context=1000000)
        p = subprocess.Popen([PROGRAM, "run", "why?"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             cwd=self.dir, env=self.environment(**env))
        begun = os.read(p.stdout.fileno(), 10)
        os.truncate(os.path.join(model, "model.safetensors"), 0)
        out, err = p.communicate()
        return p.returncode, (begun + out).decode(), err.decode()

    def test_every_pair(self):
        for first in (*CHAIN, "openai"):
            for following in CHAIN:
                if first == following:
                    continue
                with self.subTest(first=first, following=following):
                    for _ in range(10):  # a busy machine may be too late with the answer of one that is there
                        status, text, notes = self.run_pair(first, following)
                        if "did not answer within" not in notes:
                            break
                    self.assertEqual(status, 0, notes)
                    self.assertRegex(notes, rf"{NAMES[following]} (goes on|begins the answer anew) with ")
                    if first == "mlx":
                        self.assertTrue(text.startswith(ANSWER[0][:10]), text[:100])
                        self.assertIn("was cut short while in use", notes)
                        continue
                    got = json.loads(text)
                    self.assertEqual((got["backend"], got["failovers"]), (NAMES[following], 1))
                    if following == "mlx":  # a scripted model knows its own words only
                        self.assertTrue(got["text"].startswith("".join(ANSWER[:3])), got)
                    else:
                        self.assertEqual(got["text"], "".join(ANSWER))

    def test_a_backend_that_is_not_installed(self):
        packages = Packages(self.dir, packages=())
        with Ollama(models=["m"]) as s:
            for kind in CHILDREN:
                env = {**packages.env, "OLLAMA_HOST": s.host, "FALLBACK_MODEL_OLLAMA": "m", "LLM_CHAT_API_URL": packages.url(kind)}
                done = self.run_we("run", "hi", env=env)
                self.assertEqual(done.text, "Hello, world!\n")
                self.assertRegex(done.notes, rf"(?s){NAMES[kind]}.*Ollama answers with m")


if __name__ == "__main__":
    main()
