# SPDX-License-Identifier: Apache-2.0
"""`doctor`: a healthy machine, and broken ones."""
import os

from support import EndToEnd, main


class Doctor(EndToEnd):
    def doctor(self, status=0, **env):
        answer = self.run_we("doctor", "--json", status=status, env=env).json()
        self.assertEqual(answer["can_chat"], status == 0, answer)
        return answer["findings"]

    def blocking(self, **env):
        return [f for f in self.doctor(1, **env) if f["verdict"] == "blocks"]

    def found(self, findings, area):
        return [f for f in findings if f["area"] == area]

    def test_all_is_well(self):
        findings = self.doctor()
        areas = {f["area"] for f in findings}
        self.assertLessEqual({"CPU", "memory", "GPU", "disk", "folders", "variables", "models", "chat model", "backends",
                              "Python", "tray"}, areas)
        self.assertEqual([f["verdict"] for f in self.found(findings, "chat model")], ["ok"])
        text = self.run_we("doctor").text
        self.assertIn("A chat can begin", text)
        self.assertTrue(all(len(line) <= 80 or " " not in line[21:] for line in text.splitlines()), text)

    def test_a_missing_model(self):
        bad, = self.blocking(MLX_MODEL_NAME="nowhere")
        self.assertIn("Model path does not exist", bad["finding"])
        self.assertIn("MLX_MODEL_NAME", bad["finding"])
        self.assertIn("whisperengine list", bad["mend"])
        self.assertIn("keeps a chat", self.run_we("doctor", status=1, env={"MLX_MODEL_NAME": "nowhere"}).text)

    def test_a_broken_model(self):
        folder = self.scripted()
        os.truncate(os.path.join(folder, "model.safetensors"), 1000)
        bad, = self.blocking(MLX_MODEL_NAME="scripted")
        self.assertEqual(bad["area"], "chat model")

    def test_a_wrong_value(self):
        bad, = self.blocking(MLX_TEMPERATURE="hot")
        self.assertIn("MLX_TEMPERATURE", bad["finding"])
        self.assertIn("0 to 100", bad["finding"])
        self.assertIn("Unset", bad["mend"])
        bad, = self.blocking(WE_LOG="loud")  # which keeps every other command from running
        self.assertIn("WE_LOG", bad["finding"])

    def test_a_wrong_value_blocks_only_where_chat_needs_it(self):
        for name, value, blocks in (("MLX_QUANTIZATION", "maybe", True), ("MLX_BATCH_SIZE", "0", False), ("OLLAMA_HOST", "host:port", False)):
            with self.subTest(name):
                done = self.run_we("doctor", "--json", env={name: value}, status=int(blocks))
                found = [f for f in done.json()["findings"] if f["area"] == "variables" and f["verdict"] not in ("ok", "note")]
                self.assertEqual([f["verdict"] for f in found], ["blocks" if blocks else "warning"])
                self.assertTrue(found[0]["mend"])
                chat = self.run_we("chat", stdin="hi\n", env={name: value}, status=None)
                self.assertEqual(chat.status != 0, blocks, chat)

    def test_a_server_that_is_not_there(self):
        found = self.found(self.doctor(LLM_CHAT_API_URL="ollama://m@127.0.0.1:1"), "chat model")
        self.assertEqual(found[0]["verdict"], "warning")
        self.assertIn("LLM_CHAT_API_URL", found[0]["finding"])

    def test_folders_that_are_not_as_they_should_be(self):
        os.makedirs(os.path.join(self.home, ".cache"))
        self.write("home/.cache/whisperengine", "a file")
        data = os.path.join(self.home, ".local", "share", "whisperengine")
        os.makedirs(data)
        os.chmod(data, 0o777)
        found = self.found(self.doctor(LOCAL_MODELS_DIR="/nowhere"), "folders")
        self.assertTrue(any("is no folder" in f["finding"] and f["mend"] for f in found), found)
        self.assertTrue(any("others may write" in f["finding"] and "chmod" in f["mend"] for f in found), found)

    def test_a_secret_is_not_shown(self):
        self.assertNotIn("hunter2", self.run_we("doctor", env={"LLM_CHAT_API_KEY": "hunter2"}).text)

    def test_no_python(self):
        found = self.found(self.doctor(PATH="/nowhere", VIRTUAL_ENV="/nowhere"), "Python")
        self.assertEqual(found[0]["verdict"], "note")
        self.assertTrue(found[0]["mend"])


class Log(EndToEnd):
    """What is said is in no log below trace."""

    def test_prompts_stay_out_of_it(self):
        secret = "xyzzy-plugh-4711"
        for args in (("run", secret), ("generate", "--prompt", secret), ("run", "--system", secret, "x")):
            done = self.run_we(*args, "--max-tokens", "3", "--log", "debug", "-v")
            self.assertNotIn(secret, done.notes)
            self.assertIn("debug", self.run_we(*args, "--max-tokens", "3", "--log", "debug", "--log", "mlx=debug").notes)
        key = "sk-swordfish"
        done = self.run_we("run", "--no-failover", secret, "--log", "debug", status=None,
                           env={"LLM_CHAT_API_URL": "http://127.0.0.1:1/v1", "LLM_CHAT_API_KEY": key})
        self.assertNotIn(secret, done.notes)
        self.assertNotIn(key, done.notes)

    def test_levels_by_module(self):
        def said(*args, **env):
            return self.run_we("generate", "--prompt", "x", "--max-tokens", "1", *args, env=env).notes
        self.assertNotIn("[model]", said())
        self.assertIn("[model]", said("--log", "model=info"))
        self.assertIn("[model]", said("--log", "mlx=debug"))
        self.assertNotIn("[hub]", said("--log", "mlx=debug"))
        self.assertIn("[model]", said(WE_LOG="mlx=debug"))
        self.assertNotIn("[model]", said("--log", "mlx=warn", WE_LOG="mlx=debug"))
        self.usage("generate", "--prompt", "x", "--log", "nothing=debug", says=["nothing", "mlx"])


if __name__ == "__main__":
    main()
