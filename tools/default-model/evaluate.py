# SPDX-License-Identifier: Apache-2.0
"""How well the folder answers: held-out questions by topic, and loops in long sampled conversations.

An answer counts as right when the topic whose answers it resembles most (word trigrams) is the question's topic.
"""
import argparse
import re
from collections import Counter, defaultdict
from pathlib import Path

import torch

from dialogues import DEFAULT_SYSTEM, Binding, Writer, held_out
from export import read_folder
from model import generate
from text import ChatFormat

DIALOGUES = [
    ["hi", "who are you?", "what is WhisperEngine?", "how do I download a bigger model?", "and how do I run it?", "thanks, bye"],
    ["I have 16 GB of RAM, which model should I use?", "how do I get it?", "what about 8 GB?", "which one is better?"],
    ["How do I convert microsoft/Phi-3-mini-4k-instruct?", "and how do I quantize it?", "how many bits should I use?", "what is quantization?"],
    ["Which backends are there?", "what about Ollama?", "and LM Studio?", "in which order are they tried?", "can I switch that off?"],
    ["It says Model path does not exist: ./models/mlx/zorblatt-9b", "ok, how do I get it?", "which models do I have?", "delete one"],
    ["what is the capital of Peru?", "why don't you know that?", "so what can you do?", "what's a kv cache", "give me an example", "tell me more"],
    ["how do i chat with kestrel-13b-chat", "how much memory does it need?", "is this private?", "tell me a joke", "lol", "how do I quit"],
    ["where are my models stored", "can I move them to another disk?", "what settings are there?", "how do I make answers less random?"],
]

# Names that the generator of dialogues.py does not know, as a user may have them.
NAMES = """zorblatt-9b glimmerfox-22b-chat Nebulon-3.7B quixotl-1.5 tharkun-80b-instruct Wobble_6b mudskipper-0.9b-it hexapod-12b-v3
xqv-33b Marzipan-4b-8bit treacle7-2b BlueHeron-17b jabberwock-110b dingo-mini-450m snorkel-5x4b Okapi-Large-2503""".split()
REPOS = """treehouse42/zorblatt-9b Quill-Labs/quixotl-1.5 k9research/Nebulon-3.7B jane_doe/mudskipper-0.9b-it deepfjord/xqv-33b
open-marmot/BlueHeron-17b-4bit h2so4/tharkun-80b-instruct umbrella-ai/Okapi-Large-2503""".split()


def grams(text):
    words = re.findall(r"[\w./:-]+", text.lower())
    return set(zip(words, words[1:], words[2:])) if len(words) > 2 else {tuple(words)}


class Judge:
    """Finds the topic whose answers are most like a given one: the F1 of word trigrams."""

    def __init__(self, writer, n=60):
        self.topics, self.sizes, self.holders = [], [], defaultdict(list)
        for topic in writer.topics.values():
            for _ in range(n):
                self.add(topic.id, writer.answer(topic, Binding()))
            for part in (topic.short, topic.more, topic.ex):
                if part:
                    self.add(topic.id, part.draw(writer.rng, Binding().answer(topic.id)))
        for _ in range(n):
            self.add("unknown", writer.unknown.answer(writer.rng))
            self.add("unknown", writer.unknown.puzzled(writer.rng))

    def add(self, topic, answer):
        g = grams(answer)
        for gram in g:
            self.holders[gram].append(len(self.topics))
        self.topics.append(topic)
        self.sizes.append(len(g))

    def topic(self, answer):
        g = grams(answer)
        shared = Counter(i for gram in g for i in self.holders.get(gram, ()))
        if not shared:
            return "none", 0.0
        best = max(shared, key=lambda i: shared[i] / (len(g) + self.sizes[i]))
        return self.topics[best], 2 * shared[best] / (len(g) + self.sizes[best])


def looped(answer):
    """The same four words three times in one answer."""
    words = answer.split()
    return any(n >= 3 for n in Counter(zip(words, words[1:], words[2:], words[3:])).values())


def report(folder, device, n_conversations=200, temperatures=(0.0, 0.7)):
    model, tokenizer = read_folder(Path(folder), device)
    chat, writer = ChatFormat(tokenizer), Writer(99991)
    judge = Judge(writer)

    for name, questions in held_out(writer.topics, writer.unknown).items():
        prompts = [chat.prompt([("system", DEFAULT_SYSTEM), ("user", q)]) for _, q in questions]
        answers = [chat.decode(a) for a in generate(model, prompts, chat.im_end)]
        right, honest, strange = 0, 0, 0
        for (want, question), answer in zip(questions, answers):
            got, likeness = judge.topic(answer)
            right += got in want
            honest += got == "unknown" and got not in want
            strange += likeness < 0.6
            if got not in want:
                print(f"  {name}: {question!r} wants {'|'.join(want)}, got {got} ({likeness:.2f}): {answer[:90]}")
        print(f"held-out questions, {name} set: {right} of {len(questions)} on topic ({100 * right / len(questions):.1f}%), {honest} more "
              f"answered by \"I don't know\", {strange} unlike any answer of the corpus", flush=True)

    asked = [(q, n) for n in NAMES for q in (f"how do I run {n}?", f"I want to delete {n}", f"how big is {n}?")]
    asked += [(q, n) for n in REPOS for q in (f"download {n}", f"how do I convert {n}?", f"where can I get {n}?")]
    answers = generate(model, [chat.prompt([("system", DEFAULT_SYSTEM), ("user", q)]) for q, _ in asked], chat.im_end)
    wrong = [(q, chat.decode(a)) for (q, n), a in zip(asked, answers) if n not in chat.decode(a)]
    for question, answer in wrong:
        print(f"  name: {question!r}: {answer[:90]}")
    print(f"unusual names repeated faithfully: {len(asked) - len(wrong)} of {len(asked)}", flush=True)

    for temperature in temperatures:
        writer = Writer(4242)
        scripts = [writer.conversation(6) for _ in range(n_conversations)]
        talks = [[m[0]] for m, _ in scripts]
        loops = endless = repeats = on_topic = judged = fallen = 0
        for turn in range(6):
            for talk, (messages, _) in zip(talks, scripts):
                talk.append(messages[1 + 2 * turn])
            out = generate(model, [chat.prompt(t) for t in talks], chat.im_end, temperature=temperature, top_p=0.95, seed=turn)
            for talk, ids, (_, topics) in zip(talks, out, scripts):
                answer = chat.decode(ids)
                if looped(answer):
                    loops += 1
                    print("  loop:", talk[-1][1], "->", answer)
                endless += len(ids) >= 160
                got, likeness = judge.topic(answer)
                fallen += likeness < 0.5 and topics[turn] != "name"
                if topics[turn] != "name":
                    judged, on_topic = judged + 1, on_topic + (got == topics[turn])
                talk.append(("assistant", answer))
        print(f"temperature {temperature}: {n_conversations} conversations of 6 turns: {loops} answers with loops, {endless} without an end, "
              f"{on_topic} of {judged} turns on topic ({100 * on_topic / judged:.1f}%), {fallen} unlike any answer of the corpus")

    for dialogue in DIALOGUES:
        print()
        talk = [("system", DEFAULT_SYSTEM)]
        for question in dialogue:
            talk.append(("user", question))
            answer = chat.decode(generate(model, [chat.prompt(talk)], chat.im_end, temperature=0.3, top_p=0.9)[0])
            talk.append(("assistant", answer))
            print(f"> {question}\n{answer}")


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("folder", type=Path)
    a.add_argument("--conversations", type=int, default=200)
    a = a.parse_args()
    report(a.folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"), a.conversations)
