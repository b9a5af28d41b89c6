# SPDX-License-Identifier: Apache-2.0
"""`recommend`: figures that agree with each other, on whatever machine this is."""
from support import EndToEnd, main


class Recommend(EndToEnd):
    def test_as_json(self):
        answer = self.run_we("recommend", "--json").json()
        machine, models = answer["machine"], answer["models"]
        self.assertGreater(machine["memory_total_bytes"], machine["memory_available_bytes"] - 1)
        self.assertGreater(machine["memory_bytes_per_second"], 0)
        self.assertIn(machine["tier_gb"], (8, 16, 32))
        names = [m["name"] for m in models]
        for name in ("phi-3-mini", "llama-3.2-3b", "llama-3.1-8b-instruct", "mistral-7b-instruct", "llama-3.1-70b"):
            self.assertIn(name, names)
        for m in models:
            self.assertEqual(m["needed_bytes"], m["weights_bytes"] + m["kv_bytes"] + m["scratch_bytes"], m)
            self.assertGreater(m["tokens_per_second"], 0, m)
            self.assertLessEqual(m["context"], 8192)
            self.assertEqual(m["command"], f"whisperengine pull {m['name']}")
            self.assertTrue(m["fits"] or not m["recommended"], m)

    def test_a_model_that_is_here_is_run(self):
        self.scripted("phi-3-mini")
        phi = [m for m in self.run_we("recommend", "--json").json()["models"] if m["name"] == "phi-3-mini"][0]
        self.assertTrue(phi["here"])
        self.assertEqual(phi["command"], "whisperengine chat --model phi-3-mini")

    def test_a_model_of_the_users_table(self):
        self.write("home/.config/whisperengine/models.json", '{"mine": {"mlx": "./models/mlx/here"}, "gone": {"mlx": "me/gone"}}')
        models = {m["name"]: m for m in self.run_we("recommend", "--json").json()["models"]}
        self.assertNotIn("mine", models, "what is not here can't be counted")
        self.scripted("here")
        mine = {m["name"]: m for m in self.run_we("recommend", "--json").json()["models"]}["mine"]
        self.assertEqual((mine["here"], mine["command"]), (True, "whisperengine chat --model mine"))
        self.assertEqual(mine["needed_bytes"], mine["weights_bytes"] + mine["kv_bytes"] + mine["scratch_bytes"])
        info = self.run_we("info", "--json", "mine").json()
        self.assertEqual(mine["weights_bytes"], info["weights_bytes"])

    def test_a_longer_context_needs_more(self):
        def needed(context):
            answer = self.run_we("recommend", "--json", "--context", context).json()
            return {m["name"]: m["needed_bytes"] for m in answer["models"]}
        short, long = needed(1024), needed(16384)
        self.assertLess(short["llama-3.1-8b-instruct"], long["llama-3.1-8b-instruct"])
        self.usage("recommend", "--context", "0", says="--context")

    def test_for_people(self):
        text = self.run_we("recommend").text
        self.assertIn("llama-3.1-8b-instruct", text)
        self.assertTrue(all(len(line) < 80 for line in text.splitlines()), text)


if __name__ == "__main__":
    main()
