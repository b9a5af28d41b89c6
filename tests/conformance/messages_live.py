#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random conversations, rendered by `template --model DIR --jsonl` and by transformers' own apply_chat_template: both must
give the same prompt, or both an error.

    messages_live.py [-n CASES] [--seed SEED] [--templates DIR]

Conversations have roles, texts and parts, tool calls with arguments as text or object, tool results, reasoning under its
three names, names, nulls, tools, documents, add_generation_prompt, continue_final_message (true or a field) and extra
variables. They run through templates of our own, which show all that reaches a template, and through the *.jinja files
of DIR (default: $WE_TEMPLATE_VECTORS/src), where there are any. The reference is PyPI's transformers 5 (no torch is
needed). Without it the run is skipped (status 77)."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from datetime import datetime

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
try:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
    from transformers.utils import chat_template_utils
except ImportError:
    print("skipped: PyPI's transformers (5) is not installed")
    sys.exit(77)

DATE = "2024-07-26"
SHOW_ALL = """{% for m in messages %}{{ m }}
{{ m | tojson }}
{% endfor %}{{ tools }}|{{ documents }}|{{ add_generation_prompt }}|{{ bos_token }}|{{ eos_token is defined }}|{{ level }}|{{ flag }}
{{ tools | tojson(indent=2) }}{{ documents | tojson }}{{ continue_final_message is defined }}"""
CHAT = """{{ bos_token }}{% for m in messages %}{% set c = m.content %}<{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}>
{%- if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}
{%- if c is string %}{{ c }}{% else %}{% for p in c %}{{ p.text if p.type == 'text' else '[' + p.type + ']' }}{% endfor %}{% endif %}
{%- for t in m.tool_calls or [] %}
{{ t.function.name }}({{ t.function.arguments if t.function.arguments is string else t.function.arguments | tojson }})
{%- endfor %}</>
{% endfor %}{% for d in documents or [] %}{{ d.title }}: {{ d.text }}
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}{{ flag if flag is boolean else 'text ' ~ flag }}"""
TRIMMING = """{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}
{% endfor %}"""
THINKING = """{% for m in messages %}<{{ m.role }}>{% if m.thinking is defined %}[{{ m.thinking }}]{% endif %}{{ m.content }}{% endfor %}"""
ITEMS = """{% for m in messages %}{% for t in m.tool_calls or [] %}{% for k, v in t.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}
{%- endfor %}{% if m.role == 'tool' %}{{ m.tool_call_id + ':' + m.content }}{% endif %}{% endfor %}
{%- for t in tools or [] %}{{ t.function.name }}{{ t.function.parameters.properties | items | list }}{% endfor %}"""
OWN = {"show-all": SHOW_ALL, "chat": CHAT, "trimming": TRIMMING, "thinking": THINKING, "items": ITEMS}
TOOL_USE = "{{ 'tools: ' ~ tools | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
SPECIALS = [{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, {"eos_token": "<|im_end|>"},
            {"bos_token": "<b>", "eos_token": "<e>", "pad_token": "<p>", "sep_token": "<sep>", "cls_token": "<c>", "mask_token": "<m>"}]
ARGUMENTS = [[], ["flag=true"], ["flag=True", "level=3"], ["level=1.0", "flag=[1, \"a\"]"], ["flag=null"], ["level={\"a\": 1}", "flag="],
             ["enable_thinking=false"], ["flag= x=y ", "bos_token=B"]]


class Stub:
    """What apply_chat_template asks of its tokenizer."""
    get_chat_template = PreTrainedTokenizerBase.get_chat_template

    def __init__(self, template, special):
        self.chat_template, self.special_tokens_map = template, special


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.strptime(DATE, "%Y-%m-%d")


chat_template_utils.datetime = Frozen


def reference(stub, case, arguments):
    try:
        text = PreTrainedTokenizerBase.apply_chat_template(
            stub, json.loads(json.dumps(case["messages"])), tools=case.get("tools"), documents=case.get("documents"), tokenize=False,
            add_generation_prompt=case.get("add_generation_prompt", not case.get("continue_final_message")),
            continue_final_message=case.get("continue_final_message", False), **arguments)
        text.encode()
        return {"text": text}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def typed(pair):
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


# ---- the generator ----

TEXTS = ["Hi", "", " two words ", "line\nnext\n", "日本語 🦙", "x\u3000", "<think>a</think>b", "content", "\t", "it's \"x\"", "{{ x }}",
         "a\u2028b", "</s>", "CONTINUE", "0", "long " * 30]


class Maker:
    def __init__(self, rng):
        self.r = rng

    def chance(self, p):
        return self.r.random() < p

    def scalar(self):
        return self.r.choice(TEXTS + [0, 1, -7, 1.0, 0.1, 1e30, 10**25, True, False, None])

    def value(self, depth=2):
        if depth and self.chance(0.3):
            return {self.r.choice(["a", "city", "é", "items", "n"]): self.value(depth - 1) for _ in range(self.r.randint(0, 3))}
        if depth and self.chance(0.3):
            return [self.value(depth - 1) for _ in range(self.r.randint(0, 3))]
        return self.scalar()

    def arguments(self):
        value = {self.r.choice(["city", "n", "opts"]): self.value() for _ in range(self.r.randint(0, 3))}
        return json.dumps(value) if self.chance(0.4) else value

    def part(self):
        if self.chance(0.75):
            return {"type": "text", "text": self.r.choice(TEXTS)}
        return self.r.choice([{"type": "image"}, {"type": "image_url", "image_url": {"url": "x.png"}}, {"type": "text", "text": None}, "text", "plain", {"type": "audio", "n": 1}])

    def content(self):
        kind = self.r.random()
        if kind < 0.75:
            return self.r.choice(TEXTS)
        if kind < 0.95:
            return [self.part() for _ in range(self.r.randint(0, 3))]
        return self.r.choice([None, 5, {"text": "x"}])

    def call(self):
        call = {"function": {"name": self.r.choice(["f", "get_weather"]), "arguments": self.arguments()}}
        if self.chance(0.7):
            call = {"id": "call_1", "type": "function", **call}
        return call

    def message(self, role):
        m = {"role": role}
        if self.chance(0.93):
            m["content"] = self.content()
        for field in ("reasoning_content", "thinking", "reasoning"):
            if role == "assistant" and self.chance(0.15):
                m[field] = self.r.choice(TEXTS + [None, [{"type": "text", "text": "r"}]])
        if role == "assistant" and self.chance(0.25):
            m["tool_calls"] = self.r.choice([None, [self.call() for _ in range(self.r.randint(0, 2))]])
        if role == "tool" and self.chance(0.8):
            m["tool_call_id"] = "call_1"
        if self.chance(0.1):
            m["name"] = self.r.choice(["bob", None, "f"])
        if self.chance(0.05):
            m["extra"] = self.value()
        items = list(m.items())
        if self.chance(0.2):
            self.r.shuffle(items)
        return dict(items)

    def messages(self):
        roles = self.r.choice([["user"], ["system", "user"], ["user", "assistant"], ["user", "assistant", "user"], ["system", "user", "assistant"],
                               ["user", "assistant", "tool", "assistant"], ["developer", "user"], ["user", "user"], ["assistant"]])
        if self.chance(0.01):
            return []
        return [self.message(role) for role in roles]

    def tool(self):
        properties = {self.r.choice(["city", "unit"]): {"type": "string", "description": self.r.choice(TEXTS)} for _ in range(self.r.randint(0, 2))}
        return {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": properties}}}

    def case(self):
        c = {"messages": self.messages()}
        if self.chance(0.03) and c["messages"]:
            c["messages"][self.r.randrange(len(c["messages"]))] = self.r.choice(["x", 1, None, []])
        if self.chance(0.3):
            c["tools"] = ["x"] if self.chance(0.05) else self.r.choice([None, [self.tool() for _ in range(self.r.randint(0, 2))]])
        if self.chance(0.3):
            c["documents"] = ["x"] if self.chance(0.05) else self.r.choice([None, [], [{"title": "t", "text": self.r.choice(TEXTS)}], [{"text": "only"}, {"title": "a", "n": 1}]])
        if self.chance(0.6):
            c["add_generation_prompt"] = self.chance(0.3)
        if self.chance(0.4):
            c["continue_final_message"] = self.r.choice([True] * 8 + [False, "content", "reasoning_content", "thinking", "reasoning", "role", "nosuch"])
        return c


# ---- comparing ----

def is_comparable(want):
    # a method prints its address
    return not any(mark in want.get("text", "") for mark in (" at 0x", "<built-in", "<bound method", "<generator"))


def answers(command, folder, arguments, cases):
    call = [command, "template", "--model", folder, "--jsonl", "--date", DATE]
    for pair in arguments:
        call += ["--template-arg", pair]
    lines = "".join(json.dumps(c) + "\n" for c in cases)
    done = subprocess.run(call, input=lines, capture_output=True, text=True)
    got = [json.loads(a) for a in done.stdout.split("\n") if a]
    if len(got) != len(cases):
        sys.exit(f"{call}: {len(got)} answers to {len(cases)} cases, status {done.returncode}\n{done.stderr[-2000:]}")
    return got


def templates(folder):
    found = dict(OWN)
    if folder and os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".jinja"):
                with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
                    found[name] = f.read()
    return found


def batch(command, rng, name, source, n, show):
    """One template, `n` conversations: how many differ, fail on both sides, are left out."""
    special, arguments = rng.choice(SPECIALS), rng.choice(ARGUMENTS)
    maker = Maker(rng)
    cases = [maker.case() for _ in range(n)]
    config, chosen = dict(special, chat_template=source), source
    if name in OWN and rng.random() < 0.3:
        config["chat_template"] = [{"name": "default", "template": source}, {"name": "tool_use", "template": TOOL_USE}]
        chosen = {"default": source, "tool_use": TOOL_USE}
    bad = errors = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        got = answers(command, folder, arguments, cases)
    stub = Stub(chosen, special)
    for case, have in zip(cases, got):
        want = reference(stub, case, dict(typed(pair) for pair in arguments))
        if not is_comparable(want):
            skipped += 1
            continue
        errors += "error" in want
        if ("error" in want) == ("error" in have) and want.get("text") == have.get("text"):
            continue
        bad += 1
        if bad <= show:
            print(f"--- {name}, {arguments}, {special}\n{json.dumps(case, ensure_ascii=False)}\nwant {json.dumps(want, ensure_ascii=False)[:600]}\n"
                  f"got  {json.dumps(have, ensure_ascii=False)[:600]}")
    return bad, errors, skipped


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=10000)
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    p.add_argument("--show", type=int, default=3, help="differences shown for each template")
    p.add_argument("--templates", default=os.path.join(os.environ.get("WE_TEMPLATE_VECTORS", ""), "src"))
    p.add_argument("--command", default=os.environ.get("WHISPERENGINE", "whisperengine"))
    a = p.parse_args()
    found, rng = templates(a.templates), random.Random(a.seed)
    print(f"seed {a.seed}, {a.n} conversations, {len(found)} templates, python {sys.version.split()[0]}")
    done = bad = errors = skipped = 0
    while done < a.n and bad < 50:
        for name, source in found.items():
            n = min(100 if name in OWN else 20, a.n - done)
            if n <= 0:
                break
            counts = batch(a.command, rng, name, source, n, a.show)
            done, bad, errors, skipped = done + n, bad + counts[0], errors + counts[1], skipped + counts[2]
    print(f"{done} conversations, {bad} differences ({errors} errors on both sides, {skipped} not comparable)")
    return 1 if bad else 0


if __name__ == "__main__":
    import warnings
    warnings.simplefilter("ignore")
    sys.exit(main())
