# SPDX-License-Identifier: Apache-2.0
"""LLMClient: the shape of answers, streaming, asyncio, failing over, errors."""
import asyncio
import os
import subprocess
import sys
import unittest

import helpers
import standins
from whisperengine import errors
from whisperengine.llm.llm_client import LLMClient

ASK = [{"role": "user", "content": "x"}]


class Client(helpers.PackageTest):
    def client(self, url="mlx://scripted", **kw):
        client = LLMClient(api_url=url, **kw)
        self.addCleanup(client.close)
        return client

    def test_an_answer_has_openais_shape(self):
        self.scripted()
        answer = self.client().chat_completion(messages=ASK)
        self.assertEqual(answer["object"], "chat.completion")
        self.assertEqual(answer["model"], "scripted")
        self.assertEqual(len(answer["choices"]), 1)
        choice = answer["choices"][0]
        self.assertEqual(choice["message"], {"role": "assistant", "content": "Hello, world!"})
        self.assertEqual((choice["index"], choice["finish_reason"]), (0, "stop"))
        usage = answer["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertTrue(answer["id"] and answer["created"] and answer["backend"])

    def test_streaming(self):
        self.scripted()
        chunks = list(self.client().chat_completion(ASK, stream=True))
        self.assertTrue(all(c["object"] == "chat.completion.chunk" for c in chunks))
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
        self.assertEqual(text, "Hello, world!")
        self.assertEqual([c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]], ["stop"])
        self.assertEqual(len({c["id"] for c in chunks}), 1)

    def test_asyncio(self):
        self.scripted()
        client = self.client()

        async def main():
            response = client.chat_completion_async(ASK)
            pieces = [c["choices"][0]["delta"].get("content") or "" async for c in response]
            several = await asyncio.gather(*[client.chat_completion_async(ASK) for _ in range(3)])
            return "".join(pieces), await response, several

        text, whole, several = asyncio.run(main())
        self.assertEqual(text, "Hello, world!")
        self.assertEqual([a["choices"][0]["message"] for a in several], [whole["choices"][0]["message"]] * 3)

    def test_options(self):
        self.scripted(pieces=("one ", "two ", "three"))
        client = self.client()
        say = lambda **kw: client.chat_completion(ASK, **kw)["choices"][0]
        self.assertEqual(say(stop="two")["message"]["content"], "one ")
        cut = say(max_tokens=2, temperature=0)
        self.assertEqual((cut["message"]["content"], cut["finish_reason"]), ("one two ", "length"))
        os.environ["MLX_MAX_TOKENS"] = "1"
        self.assertEqual(say()["message"]["content"], "one ")

    def test_unicode(self):
        self.scripted(pieces=("Grüße 🍎",))
        answer = self.client().chat_completion([{"role": "system", "content": "日本"}, {"role": "user", "content": "🍏\0"}])
        self.assertEqual(answer["choices"][0]["message"]["content"], "Grüße 🍎")

    def test_the_configuration_names_the_model(self):
        self.scripted("mine", pieces=("mine",))
        os.environ["MLX_MODEL_NAME"] = "mine"
        self.assertEqual(self.client(None).chat_completion(ASK)["choices"][0]["message"]["content"], "mine")
        os.environ["LLM_CHAT_API_URL"] = "mlx://nothing"
        with self.assertRaises(errors.ModelNotFoundError):
            self.client(None, failover=False).chat_completion(ASK)

    def test_a_server(self):
        with standins.OpenAI() as server:
            answer = self.client(f"{server.url}/v1#tiny").chat_completion(ASK)
            self.assertEqual(answer["choices"][0]["message"]["content"], "Hello, world!")

    def test_the_next_backend_takes_over_and_the_log_says_so(self):
        self.scripted()
        os.environ["FALLBACK_MODEL_MLX"] = "scripted"
        client = self.client("ollama://tiny", retries=0)
        with self.assertLogs("whisperengine.llm.llm_client", "WARNING") as log:
            answer = client.chat_completion(ASK)
        self.assertEqual(answer["choices"][0]["message"]["content"], "Hello, world!")
        self.assertIn("Ollama", " ".join(log.output))
        self.assertEqual(client.get_info()["n_failovers"], 1)
        with self.assertRaises(errors.NetworkError):
            self.client("ollama://tiny", retries=0, failover=False).chat_completion(ASK)

    def test_wrong_urls_and_messages(self):
        for url in ("gopher://x", "mlx://", "nonsense", "mlx://a\0b"):
            with self.subTest(url), self.assertRaises(errors.InvalidArgumentError):
                self.client(url).chat_completion(ASK)
        self.scripted()
        client = self.client(failover=False)
        for messages in ([{"role": "user", "content": "\ud83c"}], [{"role": "user", "content": object()}], ["x"]):
            with self.subTest(messages), self.assertRaises(errors.WhisperEngineError):
                client.chat_completion(messages)
        with self.assertRaises(errors.WhisperEngineError):
            client.chat_completion(ASK, temperature=-3)
        self.assertEqual(client.chat_completion(ASK)["choices"][0]["message"]["content"], "Hello, world!")

    def test_load_models_info_and_close(self):
        self.scripted()
        client = self.client()
        client.load()
        self.assertIn("scripted", [m.name for m in client.list_models()])
        self.assertEqual(client.get_info()["backend"], "MLX")
        client.unload()
        self.assertEqual(client.chat_completion(ASK)["choices"][0]["message"]["content"], "Hello, world!")
        client.close()
        client.close()
        with self.assertRaises(errors.WhisperEngineError):
            client.chat_completion(ASK)

    def test_cancelling(self):
        self.scripted(pieces=("tick ",), loop=True, context=100000)
        os.environ["MLX_MAX_TOKENS"] = "100000"
        client = self.client()
        for chunk in client.chat_completion(ASK, stream=True):
            if chunk["choices"][0]["delta"].get("content"):
                break
        self.assertEqual(client.chat_completion(ASK, max_tokens=1)["choices"][0]["message"]["content"], "tick ")
        response = client.chat_completion_async(ASK)
        client.close()
        self.assertTrue(response.done())

    def test_dotenv_counts_below_the_environment(self):
        self.scripted("mine", pieces=("mine",))
        with open(".env", "w") as f:
            f.write("MLX_MODEL_NAME=mine\nMLX_MAX_TOKENS=5\n")
        os.chmod(".env", 0o600)
        code = "import sys; sys.path[:0] = %r\n" % sys.path + """
from whisperengine.llm.llm_client import LLMClient
from whisperengine.llm.mlx_backend import get_default_mlx_model_config
print(LLMClient().chat_completion([{"role": "user", "content": "x"}])["choices"][0]["message"]["content"])
print(get_default_mlx_model_config().max_tokens)
"""
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "MLX_MAX_TOKENS": "9"})
        self.assertEqual(done.stdout, "mine\n9\n")


if __name__ == "__main__":
    unittest.main()
