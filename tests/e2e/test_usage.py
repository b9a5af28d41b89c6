# SPDX-License-Identifier: Apache-2.0
"""Help, versions, wrong usage: what can be wrong on a command line and what is said about it. No model is loaded here."""

from support import COMMANDS, EndToEnd, main

MODEL_COMMANDS = ["chat", "run", "generate", "bench", "perplexity", "logits"]
SAMPLING_COMMANDS = ["chat", "run", "generate"]


class Help(EndToEnd):
    def test_version(self):
        for word in ("--version", "-V"):
            self.assertRegex(self.run_we(word).text, r"^whisperengine \d+\.\d+\.\d+\S*\n$")

    def test_overview_names_every_command(self):
        text = self.run_we("--help").text
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} +\S", f"--help must list {command}")

    def test_nothing_at_all_is_wrong_usage(self):
        done = self.usage(says="Usage:")
        self.assertEqual(done.out, b"")

    def test_every_command_has_help(self):
        for command in COMMANDS:
            for args in ([command, "--help"], [command, "-h"], ["help", command]):
                done = self.run_we(*args)
                self.assertIn(f"Usage: whisperengine {command}", done.text, str(done))
                self.assertEqual(done.err, b"", str(done))
                for option in ("--json", "-v, --verbose", "--log", "--help"):
                    self.assertIn(option, done.text, f"{command} takes {option}{done}")

    def test_help_names_the_options_of_the_contract(self):
        sampling = ("--max-tokens --temperature --top-p --top-k --min-p --repetition-penalty --repetition-context --stop "
                    "--seed").split()
        running = "--context --kv-bits --allow-paging --threads --kernels --device --precise --model".split()
        for command in MODEL_COMMANDS:
            text = self.run_we(command, "--help").text
            for option in running + (sampling if command in SAMPLING_COMMANDS else []):
                self.assertIn(option, text, f"{command} --help")
        for command in ("chat", "run"):
            self.assertIn("--template-arg", self.run_we(command, "--help").text)

    def test_help_wins_over_what_follows(self):
        self.run_we("run", "--help", "--nonsense")


class WrongUsage(EndToEnd):
    def test_unknown_command_with_a_suggestion(self):
        for typo, meant in (("cht", "chat"), ("rnu", "run"), ("tokenise", "tokenize"), ("perplex", "perplexity"), ("Bench", "bench")):
            self.usage(typo, says=[typo, f"'{meant}'"])

    def test_unknown_command_without_one(self):
        done = self.usage("frobnicate", says="frobnicate")
        self.assertNotIn("did you mean", done.notes)

    def test_commands_of_later_versions_are_unknown(self):
        for command in ("serve", "pull", "convert"):
            self.usage(command, says=command)

    def test_control_characters_in_a_name_are_shown_escaped(self):
        self.usage("a\x1b[31m", says="a\\x1b[31m")

    def test_an_option_before_the_command(self):
        self.usage("--model", "x", "chat", says="--model")

    def test_unknown_options(self):
        for command in COMMANDS:
            self.usage(command, "--frobnicate", says=[command, "--frobnicate"])
        self.usage("run", "--temprature", "1", says=["--temprature", "--temperature"])
        self.usage("bench", "-Z", says="-Z")

    def test_missing_and_superfluous_values(self):
        self.usage("run", "--temperature", says=["--temperature", "needs a value"])
        self.usage("run", "--json=yes", "x", says=["--json", "no value"])
        self.usage("generate", "--prompt", "a", "superfluous", says="superfluous")

    def test_values_out_of_range_name_option_value_and_range(self):
        cases = [
            ("--temperature", "-1", "0 to 100"), ("--temperature", "hot", "0 to 100"), ("--temperature", "nan", "0 to 100"),
            ("--top-p", "1.5", "0 to 1"), ("--min-p", "-0.1", "0 to 1"), ("--top-k", "-3", "0 to"),
            ("--max-tokens", "0", "1 to"), ("--max-tokens", "12x", "1 to"), ("--max-tokens", "", "1 to"),
            ("--repetition-penalty", "-1", "0 to"), ("--repetition-context", "0", "1 to"), ("--seed", "-1", "0 to"),
            ("--seed", "99999999999999999999999", "0 to"), ("--context", "0", "1 to"), ("--threads", "0", "1 to"),
            ("--kv-bits", "5", "16|8|4"), ("--template-arg", "novalue", "NAME=VALUE"),
        ]
        for option, value, expected in cases:
            self.usage("run", option, value, "prompt", says=[option, f"'{value}'", expected])
            self.usage("run", f"{option}={value}", "prompt", says=[option, f"'{value}'", expected])

    def test_token_lists(self):
        for value in ("", "1,", ",1", "1,,2", "1,x", "-1", "1.5", "3000000000"):
            self.usage("generate", "--prompt-tokens", value, says=["--prompt-tokens", "1,2,3"])
            self.usage("logits", "--tokens", value, "--output", "x.npy", says=["--tokens", "1,2,3"])

    def test_dates(self):
        for value in ("2024-02-30", "2023-02-29", "24-01-01", "2024/01/01", "today"):
            self.usage("template", "--date", value, says=["--date", value])

    def test_what_belongs_together(self):
        self.usage("generate", says=["--prompt", "--prompt-tokens"])
        self.usage("generate", "--prompt", "a", "--prompt-tokens", "1", says=["--prompt", "--prompt-tokens"])
        self.usage("logits", "--output", "x.npy", says="--tokens")
        self.usage("logits", "--tokens", "1", says="--output")
        self.usage("perplexity", says="--file")
        self.usage("bench", "-p", "0", "-n", "0", says="nothing to measure")
        self.usage("template", says=["--messages", "--template", "--jsonl"])
        self.usage("template", "--template", "a.jinja", says="--context")
        self.usage("template", "--jsonl", "--messages", "a.json", says="--messages")
        self.usage("info", "a", "--model", "b", says="twice")

    def test_log(self):
        for value in ("loud", "model=loud", "nonsense=debug"):
            self.usage("list", "--log", value, says="--log")
        self.run_we("list", "--log", "debug", "--log", "model=trace")

    def test_environment_names_variable_value_and_range(self):
        cases = [("MLX_TEMPERATURE", "hot", "0 to 100"), ("MLX_TOP_P", "2", "0 to 1"), ("MLX_MAX_TOKENS", "-5", "1 to")]
        for name, value, expected in cases:
            for command in ("run", "chat"):
                self.usage(command, env={name: value}, stdin="hi\n", says=[name, f"'{value}'", expected])


if __name__ == "__main__":
    main()
