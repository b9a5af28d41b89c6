# SPDX-License-Identifier: Apache-2.0
"""chat: over a pipe, and on a terminal as a person uses it."""
import json
import os
import signal
import stat
import unittest

from support import ARROW_UP, CTRL_C, CTRL_D, EndToEnd, Terminal, main

# Shows what the model is asked: the template's own text is what the test reads, through an error message.
TELL_TALE = "{{ raise_exception(messages | tojson) }}"


class ChatTest(EndToEnd):
    def data(self, name):
        return os.path.join(self.home, ".local", "share", "whisperengine", name)

    def conversation(self):
        with open(self.data("conversation.json"), encoding="utf-8") as f:
            return [(m["role"], m["content"]) for m in json.load(f)["messages"]]


@unittest.skipIf(os.uname().sysname == "Darwin", "the data folder lies elsewhere")
class Pipe(ChatTest):
    def test_answers_alone(self):
        done = self.run_we("chat", "-m", self.scripted(), stdin="hi\n\n  \nhow are you\r\nlast")
        self.assertEqual(done.out, b"Hello, world!\n" * 3)
        self.assertEqual(done.err, b"", f"no prompts, no greeting{done}")

    def test_no_colours(self):
        done = self.run_we("chat", "-m", self.scripted(), "-v", stdin="hi\n/help\n/stats\n/nonsense\n", status=None)
        self.assertNotIn(b"\x1b", done.out + done.err, str(done))

    def test_the_conversation_is_kept_and_continued(self):
        model = self.scripted()
        self.run_we("chat", "-m", model, "--system", "be kind", stdin="one\ntwo\n")
        said = [("system", "be kind"), ("user", "one"), ("assistant", "Hello, world!"), ("user", "two"), ("assistant", "Hello, world!")]
        self.assertEqual(self.conversation(), said)
        self.assertEqual(stat.S_IMODE(os.stat(self.data("conversation.json")).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(self.data(""))).st_mode), 0o700)
        self.run_we("chat", "-m", model, "--continue", stdin="three\n")
        said += [("user", "three"), ("assistant", "Hello, world!")]
        self.assertEqual(self.conversation(), said)
        # the model is really asked all of it
        done = self.run_we("chat", "-m", self.scripted("tell", template=TELL_TALE), "--continue", stdin="four\n", status=1)
        for _, content in said + [("user", "four")]:
            self.assertIn(content, done.notes)
        self.assertEqual(self.conversation(), said, "a turn that failed is not kept")
        self.run_we("chat", "-m", model, stdin="anew\n")
        self.assertEqual(self.conversation(), [("user", "anew"), ("assistant", "Hello, world!")])

    def test_nothing_to_continue(self):
        done = self.run_we("chat", "-m", self.scripted(), "--continue", stdin="hi\n")
        self.assertEqual(done.out, b"Hello, world!\n")
        self.assertIn("new one", done.notes)

    def test_a_broken_conversation_file(self):
        model = self.scripted()
        self.run_we("chat", "-m", model, stdin="hi\n")
        for content in ("", "{", '{"messages": 1}', '{"messages": [{"role": "wizard", "content": "x"}]}', '{"messages": [{"role": "user"}]}'):
            with open(self.data("conversation.json"), "w") as f:
                f.write(content)
            self.fails("chat", "-m", model, "--continue", stdin="hi\n", says="conversation.json")

    def test_a_home_that_cannot_be_written(self):
        blocked = self.write("file", "")
        done = self.run_we("chat", "-m", self.scripted(), stdin="hi\n", env={"HOME": blocked, "XDG_DATA_HOME": blocked + "/x"})
        self.assertEqual(done.out, b"Hello, world!\n")
        self.assertIn("not", done.notes)

    def test_commands(self):
        model = self.scripted()
        done = self.run_we("chat", "-m", model, stdin="/help\n/system be brief\none\n/save saved.json\n/stats\n/new\ntwo\n/exit\nthree\n")
        for command in ("/help", "/stats", "/system", "/reset", "/save", "/exit"):
            self.assertIn(command, done.text)
        for word in ("tokens/s", "time to first token", "cached", "of 4096 tokens", "weights", "KV cache", "resident"):
            self.assertIn(word, done.text, f"/stats{done}")
        self.assertEqual(done.text.count("Hello, world!"), 2, f"nothing after /exit{done}")
        with open(os.path.join(self.dir, "saved.json")) as f:
            saved = [(m["role"], m["content"]) for m in json.load(f)["messages"]]
        self.assertEqual(saved, [("system", "be brief"), ("user", "one"), ("assistant", "Hello, world!")])
        self.assertEqual(self.conversation(), [("system", "be brief"), ("user", "two"), ("assistant", "Hello, world!")])

    def test_a_second_turn_finds_the_first_in_the_cache(self):
        done = self.run_we("chat", "-m", self.scripted(), "--json", stdin="one\ntwo\n")
        first, second = (json.loads(line) for line in done.text.splitlines())
        self.assertEqual(first["cached_tokens"], 0)
        self.assertGreater(second["cached_tokens"], 5, str(done))
        self.assertLess(second["cached_tokens"], second["prompt_tokens"])

    def test_unknown_commands_and_slashes(self):
        done = self.run_we("chat", "-m", self.scripted(), stdin="/frobnicate\n/etc/passwd is what?\n", status=1)
        self.assertIn("/frobnicate", done.notes)
        self.assertEqual(done.out, b"Hello, world!\n", "what only begins with a slash is a message")

    def test_a_failing_turn_does_not_end_the_chat(self):
        done = self.run_we("chat", "-m", self.scripted(), "--context", "64", stdin="hi\n" + "x" * 200 + "\nhi\n", status=1)
        self.assertEqual(done.out, b"Hello, world!\n" * 2)
        self.assertIn("64", done.notes)
        self.assertEqual([m for _, m in self.conversation()], ["hi", "Hello, world!"] * 2)

    def test_control_characters_are_escaped_and_kept_out_of_nothing(self):
        done = self.run_we("chat", "-m", self.scripted(pieces=["a\x1b[2J", "\u202eb"]), stdin="hi\n")
        self.assertEqual(done.text, "a\\x1b[2J\\u202eb\n")
        self.assertEqual(self.conversation()[1], ("assistant", "a\x1b[2J\u202eb"))

    def test_what_is_no_text(self):
        done = self.run_we("chat", "-m", self.scripted(), stdin=b"a\0b\n\xff\xfe\nhi\n", status=1)
        self.assertEqual(done.out, b"Hello, world!\n")
        self.assertIn("NUL", done.notes)

    def test_generation_defaults(self):
        model = self.scripted(pieces=["a1", "b2", "c3"])
        self.assertEqual(self.run_we("chat", "-m", model, "--max-tokens", "2", stdin="hi\n").out, b"a1b2\n")
        self.assertEqual(self.run_we("chat", "-m", model, stdin="hi\n", env={"MLX_MAX_TOKENS": "1"}).out, b"a1\n")
        self.assertEqual(self.run_we("chat", "-m", model, "--stop", "2c", stdin="hi\n").out, b"a1b\n")


class AtTheTerminal(ChatTest):
    def chat(self, *args, **kw):
        t = Terminal(self, "chat", "-m", kw.pop("model", None) or self.scripted(), *args, **kw)
        t.prompt()
        return t

    def endless(self, context=100000):
        return self.scripted("endless", pieces=["on ", "and "], loop=True, context=context)

    def test_a_conversation(self):
        t = self.chat()
        greeting = t.shown.decode()
        for word in ("WhisperEngine", "llama", "4096", "/help"):
            self.assertIn(word, greeting)
        self.assertIn("Hello, world!", t.line("hi"))
        self.assertIn("tokens/s", t.line("/stats"))
        self.assertIn("Ctrl-C", t.line("/help"))
        t.type(CTRL_D)
        t.end(0)

    def test_exit(self):
        t = self.chat()
        t.type("/exit\r")
        t.end(0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        t = self.chat("--context", "100000", model=self.endless())
        t.type("hi\r")
        t.expect("on and on and")
        t.type(CTRL_C)
        t.prompt(t.expect("(stopped)"))
        self.assertIn("tokens/s", t.line("/stats"))
        if os.uname().sysname != "Darwin":
            said = self.conversation()
            self.assertEqual(said[0], ("user", "hi"))
            self.assertTrue(said[1][1].startswith("on and on"), "the partial answer stays")
        at = len(t.shown)
        t.type("again\r")
        t.expect("on and on and", at)
        t.type(CTRL_C)
        t.prompt(t.expect("(stopped)", at))
        t.type(CTRL_D)
        t.end(0)

    def test_ctrl_c_at_the_prompt_clears_the_line_and_stays(self):
        t = self.chat()
        for _ in range(3):
            at = len(t.shown)
            t.type(CTRL_C)
            t.prompt(t.expect("\n", at))
        at = len(t.shown)
        t.type("half a line")
        t.expect("half a line", at)
        t.type(CTRL_C)
        t.prompt(t.expect("\n", at))
        self.assertIn("Hello, world!", t.line("hi"))
        t.type(CTRL_D)
        t.end(0)
        if os.uname().sysname != "Darwin":
            self.assertEqual(self.conversation(), [("user", "hi"), ("assistant", "Hello, world!")])

    def test_line_editing(self):
        t = self.chat()
        t.line("wrld\x1b[D\x1b[D\x1b[Do\x05!")  # three to the left, an o, Ctrl-E to the end
        t.line("gone\x15kept")  # Ctrl-U
        t.line("caf\u00e9x\x7f \u4e16\u754c")  # a backspace takes one character
        t.type(CTRL_D)
        t.end(0)
        if os.uname().sysname != "Darwin":
            self.assertEqual([c for r, c in self.conversation() if r == "user"], ["world!", "kept", "caf\u00e9 \u4e16\u754c"])

    def test_history_across_two_runs(self):
        model = self.scripted()
        t = self.chat(model=model)
        t.line("first question")
        t.line("second question")
        t.type(CTRL_D)
        t.end(0)
        path = next(os.path.join(d, f) for d, _, fs in os.walk(self.home) for f in fs if f == "chat_history")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        t = self.chat(model=model)
        at = len(t.shown)
        t.type(ARROW_UP)
        at = t.expect("second question", at)
        t.type(ARROW_UP)
        t.expect("first", at)  # the editor draws only what differs
        t.type("\r")
        t.prompt(t.expect("Hello, world!", at))
        t.type(CTRL_D)
        t.end(0)
        with open(path) as f:
            self.assertEqual(f.read().splitlines(), ["first question", "second question", "first question"])

    def test_a_paste_of_several_lines_is_one_message(self):
        t = self.chat()
        at = len(t.shown)
        t.type("\x1b[200~one\rtwo\n  three\t!\r\x1b[201~")
        t.expect("three", at)
        t.type("\r")
        t.prompt(t.expect("Hello, world!", at))
        t.type(CTRL_D)
        t.end(0)
        if os.uname().sysname != "Darwin":
            self.assertEqual([c for r, c in self.conversation() if r == "user"], ["one\ntwo\n  three\t!"])

    def test_lines_typed_at_once_are_answered_one_by_one(self):
        t = self.chat()
        at = len(t.shown)
        t.type("one\rtwo\r/exit\r")
        self.assertEqual(t.end(0).encode().count(b"Hello, world!", at), 2)

    def test_colours_only_where_they_are_wanted(self):
        self.assertIn(b"\x1b[1m", self.chat().shown)
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            t = self.chat(env=env)
            t.line("hi")
            self.assertNotRegex(t.shown, rb"\x1b\[[0-9;]*m", f"no colours with {env}")

    def test_control_characters_never_reach_the_terminal(self):
        t = self.chat(model=self.scripted(pieces=["a\x1b]0;title\x07", "\u202eb\u009b"]))
        shown = t.line("hi")
        self.assertIn("a\\x1b]0;title\\x07\\u202eb\\u009b", shown)
        t.type(CTRL_D)
        t.end(0)

    def test_a_full_context_keeps_the_chat_alive(self):
        t = self.chat("--context", "64")
        shown = t.line("y" * 90)
        self.assertIn("64", shown)
        self.assertIn("/reset", shown)
        self.assertIn("Hello, world!", t.line("hi"))
        t.type(CTRL_D)
        t.end(0)

    def test_an_answer_that_fills_the_context(self):
        t = self.chat("--context", "64", model=self.endless())
        self.assertIn("/reset", t.line("hi"))
        t.line("/reset")
        self.assertIn("on and on", t.line("hi"))

    def test_the_terminal_goes_away(self):
        t = self.chat()
        t.type("hi\r")
        t.prompt(t.expect("Hello, world!"))
        os.close(t.fd)
        t.fd = -1
        self.assertIn(t.process.wait(60), (0, -signal.SIGHUP))

    def test_loading_leaves_no_trace(self):
        t = self.chat()
        self.assertNotIn(b"Loading", t.shown.split(b"WhisperEngine")[-1])


if __name__ == "__main__":
    main()
