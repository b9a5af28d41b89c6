# SPDX-License-Identifier: Apache-2.0
"""tokenize, detokenize, template: exact to the byte, in the plain form and with --jsonl."""
import json
import os
import subprocess

from support import ASSISTANT, END, PROGRAM, TIMEOUT_S, USER, EndToEnd, main


class TextTest(EndToEnd):
    def setUp(self):
        super().setUp()
        self.model = self.scripted(pieces=["caf\u00e9", "\u00e9t\u00e9"])


class Tokenize(TextTest):
    def test_plain_takes_every_byte(self):
        for text in (b"ab\n", b"\n", b" a\r\n", b"a\0b", b"", "\u00e9".encode()):
            done = self.run_we("tokenize", "--model", self.model, stdin=text)
            self.assertEqual(done.json(), list(text), f"one token for each byte, none trimmed{done}")

    def test_special_tokens_in_the_text(self):
        self.assertEqual(self.run_we("tokenize", "-m", self.model, stdin="<|user|>a<|end|>").json(), [USER, 97, END])

    def test_jsonl(self):
        texts = ["a", "", "a\nb", "a\u0000b", "x\u0085y\u2028z", "\U0001f600", "<|end|>"]
        lines = "".join(json.dumps({"text": t, "special": False}, ensure_ascii=i % 2 == 0) + "\n" for i, t in enumerate(texts))
        done = self.run_we("tokenize", "--model", self.model, "--jsonl", stdin=lines)
        answers = done.text.split("\n")
        self.assertEqual(answers.pop(), "", "the last line ends too")
        expected = [[END] if t == "<|end|>" else list(t.encode()) for t in texts]
        self.assertEqual([json.loads(a) for a in answers], expected, str(done))

    def test_jsonl_without_a_last_newline(self):
        self.assertEqual(self.run_we("tokenize", "-m", self.model, "--jsonl", stdin='{"text":"a"}').out, b"[97]\n")

    def test_jsonl_answers_each_line_at_once(self):
        p = subprocess.Popen([PROGRAM, "tokenize", "--model", self.model, "--jsonl"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, env=self.environment(), cwd=self.dir)
        self.addCleanup(p.stdout.close)
        for text in ("a", "b"):
            p.stdin.write(json.dumps({"text": text}).encode() + b"\n")
            p.stdin.flush()
            self.assertEqual(json.loads(p.stdout.readline()), [ord(text)])
        p.stdin.close()
        self.assertEqual(p.wait(TIMEOUT_S), 0)

    def test_a_bad_line_is_named(self):
        for bad in ("{", "[]", '{"text":1}', '{"text":"a","special":1}', "", '{"text":"a"} x'):
            done = self.run_we("tokenize", "-m", self.model, "--jsonl", stdin='{"text":"a"}\n' + bad + "\n", status=1)
            self.assertEqual(done.out, b"[97]\n", f"lines before the bad one are answered{done}")
            self.assertIn("line 2", done.notes)

    def test_text_that_is_not_utf8(self):
        self.fails("tokenize", "-m", self.model, stdin=b"a\xffb", says="UTF-8")


class Detokenize(TextTest):
    def test_plain_adds_nothing(self):
        for text in (b"ab", b"a\n", b"", b"\r\n", "\u00e9\u4e16".encode(), b"a\0b", b"\x1b[31m"):
            done = self.run_we("detokenize", "--model", self.model, stdin=json.dumps(list(text)))
            self.assertEqual(done.out, text, str(done))

    def test_special_tokens(self):
        ids = json.dumps([USER, 97, END])
        self.assertEqual(self.run_we("detokenize", "-m", self.model, stdin=ids).out, b"a")
        self.assertEqual(self.run_we("detokenize", "-m", self.model, "--keep-special", stdin=ids).out, b"<|user|>a<|end|>")

    def test_ids_without_a_token_are_dropped(self):
        ids = [97, 2147483647, 98, 100000, 99999999999]
        self.assertEqual(self.run_we("detokenize", "-m", self.model, stdin=json.dumps(ids)).out, b"ab")

    def test_jsonl(self):
        lines = [{"ids": [97, END]}, {"ids": [97, END], "skip_special": False}, {"ids": [], "skip_special": True},
                 {"ids": [10, 0, 0xC3, 0xA9]}]
        done = self.run_we("detokenize", "-m", self.model, "--jsonl", stdin="".join(json.dumps(x) + "\n" for x in lines))
        self.assertEqual([json.loads(x) for x in done.text.splitlines()], ["a", "a<|end|>", "", "\n\0\u00e9"], str(done))

    def test_stream_gives_whole_characters(self):
        ids = [*"\u00e9\u4e16a".encode(), 0xE4, 0xB8]  # two characters, a letter, and the beginning of one more
        done = self.run_we("detokenize", "-m", self.model, "--jsonl", stdin=json.dumps({"ids": ids, "stream": True}))
        pieces = done.json()
        self.assertEqual(len(pieces), len(ids) + 1, f"a string for each id and one for the end{done}")
        self.assertEqual(pieces[:6], ["", "\u00e9", "", "", "\u4e16", "a"], str(done))
        self.assertEqual("".join(pieces[:8]), "\u00e9\u4e16a", str(done))
        self.assertEqual("".join(pieces), "\u00e9\u4e16a\ufffd", str(done))

    def test_what_is_no_array_of_ids(self):
        for bad in ("", "{}", "[1,", '["a"]', "[1.5]", "[1] 2", "null"):
            self.fails("detokenize", "-m", self.model, stdin=bad, says="standard input")
        done = self.run_we("detokenize", "-m", self.model, "--jsonl", stdin='{"ids":[97]}\n{"ids":97}\n', status=1)
        self.assertEqual(done.out, b'"a"\n')
        self.assertIn("line 2", done.notes)


class Template(TextTest):
    MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "h\u00e9\nllo"}]
    RENDERED = "<|system|>s<|end|><|user|>h\u00e9\nllo<|end|>"

    def test_messages(self):
        path = self.write("m.json", json.dumps(self.MESSAGES))
        self.assertEqual(self.run_we("template", "-m", self.model, "--messages", path).text, self.RENDERED + "<|assistant|>")
        done = self.run_we("template", "-m", self.model, "--messages", path, "--no-generation-prompt")
        self.assertEqual(done.text, self.RENDERED)
        done = self.run_we("template", "-m", self.model, "--messages", path, "--json")
        self.assertEqual(done.json(), {"text": self.RENDERED + "<|assistant|>"})
        done = self.run_we("template", "-m", self.model, "--messages", "-", stdin=json.dumps(self.MESSAGES))
        self.assertEqual(done.text, self.RENDERED + "<|assistant|>")

    def test_messages_in_an_object(self):
        path = self.write("m.json", json.dumps({"messages": self.MESSAGES, "add_generation_prompt": False}))
        self.assertEqual(self.run_we("template", "-m", self.model, "--messages", path).text, self.RENDERED)

    def test_tools_date_and_arguments(self):
        model = self.scripted("tools", template="{{ tools | tojson }}|{{ strftime_now('%d %b %Y') }}|{{ a }}|{{ b }}|{{ c.d[0] }}")
        messages = self.write("m.json", json.dumps(self.MESSAGES))
        tools = self.write("t.json", '[{"name": "f", "n": 1.0}]')
        done = self.run_we("template", "-m", model, "--messages", messages, "--tools", tools, "--date", "2024-02-29",
                           "--template-arg", "a=2", "--template-arg", "b=x=y", "--template-arg", 'c={"d": [7]}')
        self.assertEqual(done.text, '[{"name": "f", "n": 1.0}]|29 Feb 2024|2|x=y|7')

    def test_continue_final_message(self):
        messages = self.MESSAGES + [{"role": "assistant", "content": "so far "}]
        path = self.write("m.json", json.dumps(messages))
        said = self.RENDERED + "<|assistant|>so far "
        self.assertEqual(self.run_we("template", "-m", self.model, "--messages", path, "--continue-final-message").text, said)
        parts = messages[:-1] + [{"role": "assistant", "reasoning": "r", "content": "c"}]
        lines = [{"messages": messages, "continue_final_message": True},
                 {"messages": messages, "continue_final_message": "content", "add_generation_prompt": False},
                 {"messages": messages, "continue_final_message": True, "add_generation_prompt": True},
                 {"messages": messages, "continue_final_message": 1},
                 {"messages": parts, "continue_final_message": "reasoning"}]
        done = self.run_we("template", "-m", self.model, "--jsonl", stdin="".join(json.dumps(x) + "\n" for x in lines))
        answers = [json.loads(x) for x in done.text.splitlines()]
        self.assertEqual(answers[:2], [{"text": said}, {"text": said}])
        self.assertIn("exclude", answers[2]["error"])
        self.assertIn("continue_final_message", answers[3]["error"])
        self.assertIn("reasoning", answers[4]["error"])

    def test_documents(self):
        model = self.scripted("documents", template="{% for d in documents or [] %}{{ d.title }}:{{ d.text }};{% endfor %}")
        messages, documents = self.write("m.json", json.dumps(self.MESSAGES)), self.write("d.json", '[{"title": "a", "text": "b"}]')
        self.assertEqual(self.run_we("template", "-m", model, "--messages", messages, "--documents", documents).text, "a:b;")
        whole = self.write("w.json", json.dumps({"messages": self.MESSAGES, "documents": [{"title": "c", "text": "d"}]}))
        self.assertEqual(self.run_we("template", "-m", model, "--messages", whole).text, "c:d;")
        self.assertEqual(self.run_we("template", "-m", model, "--jsonl", stdin=json.dumps({"messages": self.MESSAGES}) + "\n").out, b'{"text":""}\n')
        self.fails("template", "-m", model, "--messages", messages, "--documents", self.write("x.json", "[1]"), says="documents")

    def test_models_without_a_template(self):
        model = self.scripted("bare", template=None)
        messages = self.write("m.json", json.dumps(self.MESSAGES + [{"role": "assistant", "content": "x"}]))
        done = self.run_we("template", "-m", model, "--messages", messages, "--no-generation-prompt", "-v")
        self.assertEqual(done.text, "<|system|>\ns<|end|>\n<|user|>\nh\u00e9\nllo<|end|>\n<|assistant|>\nx<|end|>\n")
        for word in ("no chat template", "Phi-3", "<|user|> <|assistant|> <|end|>"):
            self.assertIn(word, done.notes)
        self.assertEqual(self.run_we("template", "-m", model, "--messages", messages).notes, "", "told in verbose mode only")
        self.assertEqual(self.run_we("info", model, "--json").json()["chat_format"], "Phi-3")
        done = self.run_we("template", "-m", model, "--messages", messages, "--continue-final-message")
        self.assertTrue(done.text.endswith("<|assistant|>\nx"), str(done))

    def test_models_of_no_known_family(self):
        model = self.scripted("bare", template=None, pieces=["Hello", "\nUser", ":x"], begin=ord(":"), loop=True)
        path = os.path.join(model, "tokenizer.json")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("<|user|>", "<u>").replace("<|assistant|>", "<a>"))
        messages = self.write("m.json", json.dumps(self.MESSAGES))
        done = self.run_we("template", "-m", model, "--messages", messages, "-v")
        self.assertEqual(done.text, "s\n\nUser: h\u00e9\nllo\nAssistant:")
        self.assertIn("plain", done.notes)
        done = self.run_we("run", "-m", model, "--max-tokens", "40", "Hi")
        self.assertEqual(done.text.strip(), "Hello", f"the answer ends where the user's next turn begins{done}")

    def test_any_template(self):
        template = self.write("t.jinja", "{% for x in xs %}{{ x }};{% endfor %}\n")
        context = self.write("c.json", '{"xs": [1, 1.0, "\u00e9", null]}')
        done = self.run_we("template", "--template", template, "--context", context)
        self.assertEqual(done.text, "1;1.0;\u00e9;None;")

    def test_raising(self):
        template = self.write("t.jinja", "before {{ raise_exception('no ' ~ what) }}")
        context = self.write("c.json", '{"what": "luck"}')
        self.fails("template", "--template", template, "--context", context, says="no luck")

    def test_wrong_files(self):
        good = self.write("good.json", json.dumps(self.MESSAGES))
        self.fails("template", "-m", self.model, "--messages", "missing.json", says="missing.json")
        for content, says in (("[", "line 1"), ("{}", "array"), ('"x"', "array")):
            bad = self.write("bad.json", content)
            self.fails("template", "-m", self.model, "--messages", bad, says=["bad.json", says])
        bad = self.write("bad.json", "{")
        self.fails("template", "-m", self.model, "--messages", good, "--tools", bad, says="bad.json")
        self.fails("template", "--template", self.write("t.jinja", "x"), "--context", bad, says="bad.json")
        self.fails("template", "--template", self.write("t.jinja", "{% if %}"), "--context", self.write("c.json", "{}"), says="")

    def test_jsonl_answers_every_line(self):
        lines = ['{"template": "{{ a }}", "context": {"a": 1}}', '{"template": "{{ raise_exception(\'no\') }}", "context": {}}',
                 json.dumps({"messages": self.MESSAGES, "add_generation_prompt": False}), "not json", '{"x": 1}',
                 json.dumps({"messages": [], "tools": None})]
        done = self.run_we("template", "-m", self.model, "--jsonl", stdin="\n".join(lines) + "\n")
        answers = [json.loads(x) for x in done.text.splitlines()]
        self.assertEqual(len(answers), len(lines), str(done))
        self.assertEqual(answers[0], {"text": "1"})
        self.assertIn("no", answers[1]["error"])
        self.assertEqual(answers[2], {"text": self.RENDERED})
        for i in (3, 4, 5):
            self.assertEqual(list(answers[i]), ["error"], f"line {i + 1}{done}")

    def test_jsonl_of_templates_needs_no_model(self):
        done = self.run_we("template", "--jsonl", "-m", "no-such-model", stdin='{"template": "x", "context": {}}\n')
        self.assertEqual(done.out, b'{"text":"x"}\n')

    def test_a_folder_with_the_template_alone(self):
        os.remove(os.path.join(self.model, "tokenizer.json"))
        for name in ("config.json", "model.safetensors"):
            os.remove(os.path.join(self.model, name))
        path = self.write("m.json", json.dumps(self.MESSAGES))
        self.assertEqual(self.run_we("template", "-m", self.model, "--messages", path).text, self.RENDERED + "<|assistant|>")

    def test_the_head_of_the_answer_is_one_token(self):
        self.assertEqual(self.run_we("tokenize", "-m", self.model, stdin="<|assistant|>").json(), [ASSISTANT])


if __name__ == "__main__":
    main()
