# SPDX-License-Identifier: Apache-2.0
"""Conversations for the built-in model, made from the files in content/.

A topic has question templates, names and activities (which question frames turn into many questions) and answer
templates. `{a|b}` chooses, `<m>` and the like are names that a question binds and its answer repeats. A conversation
walks over topics: by a topic's `next` edges, by requests such as "an example, please", by small talk, by questions the
model can't answer, or by starting anew. Everything follows from the seed.
"""
import random
import re
from pathlib import Path

CONTENT = Path(__file__).parent / "content"
DEFAULT_SYSTEM = "You are the built-in assistant of WhisperEngine. Answer briefly and honestly."

# ---------------------------------------------------------------------------------------------- templates

TOKEN = re.compile(r"[{}|]|<[a-z]+>|[^{}|<]+|<")


class Template:
    """`{a|b {c|d}}` as a tree: a list of texts, slots ("<m>",) and choices [alternative, ...]."""

    def __init__(self, text):
        self.text = text
        self.tree, rest = self._parse(TOKEN.findall(text), 0, top=True)
        assert rest == len(TOKEN.findall(text)), text
        self.weight = self._count(self.tree)

    def _parse(self, tokens, i, top=False):
        seq = []
        while i < len(tokens):
            t = tokens[i]
            if t == "{":
                choice, i = [], i + 1
                while True:
                    alternative, i = self._parse(tokens, i)
                    choice.append(alternative)
                    i += 1
                    if tokens[i - 1] == "}":
                        break
                seq.append(choice)
                continue
            if t in "}|" and not top:
                return seq, i
            seq.append((t,) if re.fullmatch(r"<[a-z]+>", t) else t)
            i += 1
        return seq, i

    def _count(self, tree):
        n = 1
        for part in tree:
            if isinstance(part, list):
                n *= sum(self._count(alternative) for alternative in part)
        return n

    def slots(self):
        return set(re.findall(r"<[a-z]+>", self.text))

    def draw(self, rng, bind=None):
        out = []
        self._draw(self.tree, rng, bind, out)
        return "".join(out)

    def _draw(self, tree, rng, bind, out):
        for part in tree:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, tuple):
                out.append(bind(part[0]) if bind else part[0])
            else:
                self._draw(rng.choice(part), rng, bind, out)


def tidy(text):
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" ([.,!?;:])(?=\s|$)", r"\1", text)


# ---------------------------------------------------------------------------------------------- names

KNOWN_MODELS = """llama-3.2-3b llama-3.1-8b-instruct mistral-7b-instruct phi-3-mini codellama-7b llama-3.1-70b llama-3.2-1b
qwen3-4b qwen2.5-7b-instruct gemma-3-4b gemma-2-9b smollm2 tinyllama qwen3-0.6b mixtral-8x7b phi-4-mini olmo-2-7b
granite-3.1-8b deepseek-r1 Llama-3.2-3B-Instruct-4bit Qwen3-4B-4bit Mistral-7B-Instruct-v0.3-4bit Phi-3-mini-4k-instruct
gemma-3-1b-it-4bit my-model my-llama test-model custom-model mistral llama phi gemma qwen""".split()
ORGS = """mlx-community microsoft meta-llama mistralai Qwen google HuggingFaceTB allenai ibm-granite deepseek-ai
bigscience acme mycompany openlab anna tiiuae stabilityai""".split()
STEMS = """falcon orca zephyr vicuna hermes yi starling dolphin wizard alpaca bloom solar nova lynx tulu aya command
openchat nemo atlas raven pixel kestrel otter sage ember iris comet delta orion titan aurora bison coral""".split()
SYLLABLES = "ba be bi bo bu da de di do du fa fi fo ga go gra ka ki ko kra la le li lo lu ma me mi mo mu na ne ni no " \
            "pa pe pi po plu ra re ri ro ru sa se si so ta te ti to tri va ve vi vo wa xi za ze zo sh th nt rk ld st".split()
ONSETS = ["", "", *"b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kn kr l m n p ph pl pr qu r s sc sh sk sl sm sn sp st str sw t th tr tw "
          "v vr w wr x y z zh".split()]
VOWELS = "a a a e e e i i i o o o u u ai ea ee ie oa oo ou y".split()
CODAS = [*[""] * 12, *"b ck d f ff g k l ll m n n nd ng nk nt p r rd rk rm rn s ss st t tt th v x z".split()]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DEFAULTS = {"<m>": "llama-3.2-3b", "<n>": "my-model", "<repo>": "mlx-community/Llama-3.2-3B-Instruct-4bit",
            "<g>": "model.gguf"}


def pseudo_word(rng):
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


def name_word(rng):
    """A made-up name, spelled in more ways than pseudo_word: it has to be copied letter by letter."""
    draw = rng.random()
    if draw < 0.35:
        return pseudo_word(rng)
    if draw < 0.80:
        return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.choice([1, 2, 2, 3])))
    if draw < 0.90:
        return rng.choice(STEMS) + rng.choice(STEMS + SYLLABLES)
    return "".join(rng.choices(LETTERS, k=rng.randint(2, 5))) + rng.choice(["", str(rng.randint(1, 99))])


def model_name(rng):
    if rng.random() < 0.4:
        return rng.choice(KNOWN_MODELS)
    stem = rng.choice(STEMS) if rng.random() < 0.4 else name_word(rng)
    if rng.random() < 0.15:
        stem += rng.choice([str(rng.randint(1, 9)), f"{rng.randint(1, 9)}.{rng.randint(0, 9)}", rng.choice(STEMS).capitalize()])
    if rng.random() < 0.3:
        stem = stem[0].upper() + stem[1:] if rng.random() < 0.85 else stem.upper()
    parts = [stem]
    if rng.random() < 0.4:
        parts.append(rng.choice(["2", "3", "1.5", "2.5", "v2", "4", "3.1", f"v0.{rng.randint(1, 9)}", name_word(rng)]))
    if rng.random() < 0.8:
        size = rng.choice(["1", "2", "3", "4", "7", "8", "13", "14", "32", "34", "70", "0.5", "1.8", str(rng.randint(1, 99)),
                           f"{rng.randint(0, 9)}.{rng.randint(1, 9)}", f"{rng.randint(2, 16)}x{rng.randint(1, 22)}"])
        parts.append(f"{rng.randint(100, 999)}{rng.choice('mM')}" if rng.random() < 0.06 else size + rng.choice("bbB"))
    if rng.random() < 0.4:
        parts.append(rng.choice(["instruct", "chat", "it", "Instruct", "base", "code", "Chat", "mini", "large", "preview", "vl", "2507", "0125"]))
    if rng.random() < 0.3:
        parts.append(rng.choice(["4bit", "8bit", "mlx", "q4", "bf16", "6bit", "MLX"]))
    return rng.choice("----_").join(parts)


def org_name(rng):
    if rng.random() < 0.6:
        return rng.choice(ORGS)
    name = name_word(rng)
    if rng.random() < 0.2:
        name = name.capitalize()
    return name + rng.choice(["", "", "", "-ai", "-labs", "AI", "hub", "-" + name_word(rng), str(rng.randint(1, 99)), "_" + str(rng.randint(1, 999))])


SLOT_MAKERS = {
    "<m>": model_name,
    "<n>": model_name,
    "<repo>": lambda rng: org_name(rng) + "/" + model_name(rng),
    "<g>": lambda rng: model_name(rng) + rng.choice(["", "-q4_0", "-Q4_K_M", ".Q8_0"]) + ".gguf",
    "<nonsense>": pseudo_word,
}


class Binding(dict):
    """What the names in this stretch of the conversation stand for."""

    def ask(self, rng):
        def bind(slot):
            if slot not in self:
                self[slot] = SLOT_MAKERS[slot](rng)
            return self[slot]
        return bind

    def answer(self, topic_id):
        def bind(slot):
            if slot in self:
                return self[slot]
            if slot == "<n>":
                source = self.get("<repo>") or self.get("<g>") or self.get("<m>")
                if source:
                    return source.split("/")[-1].removesuffix(".gguf")
                return "phi-3-mini" if topic_id in ("convert", "convert_q") else DEFAULTS[slot]
            if slot == "<repo>":
                if topic_id in ("convert", "convert_q"):
                    return self.get("<m>") or "microsoft/Phi-3-mini-4k-instruct"
                return self.get("<m>") or self.get("<n>") or DEFAULTS[slot]
            if slot == "<m>":
                source = self.get("<n>") or self.get("<repo>") or self.get("<g>")
                if source:
                    return source.split("/")[-1].removesuffix(".gguf")
            return DEFAULTS[slot]
        return bind


# ---------------------------------------------------------------------------------------------- topics

class Topic:
    def __init__(self, ident, kind):
        self.id, self.kind = ident, kind            # kind: the file: commands, product, concepts, smalltalk
        self.names, self.do, self.q, self.a, self.next, self.hold = [], [], [], [], [], []
        self.keywords = []                          # phrases, or lists of phrases that belong together
        self.short = self.more = self.ex = None
        self.about = {}                             # what "it" is after an answer that named its own example


def load_topics():
    topics = {}
    for kind in ("commands", "product", "concepts", "smalltalk"):
        topic = None
        for line in (CONTENT / f"{kind}.txt").read_text().splitlines():
            if line.startswith("## "):
                topic = topics[line[3:].strip()] = Topic(line[3:].strip(), kind)
                continue
            if not line.strip() or line.startswith("# "):
                continue
            key, value = line.split(":", 1)
            value = value.strip()
            if key == "name":
                topic.names += [Template(v.strip()) for v in value.split(" ; ")]
            elif key == "do":
                topic.do += [Template(v.strip()) for v in value.split(" ; ")]
            elif key == "about":
                topic.about = dict(v.strip().split("=") for v in value.split(" ; "))
            elif key in ("q", "a", "hold"):
                getattr(topic, key).append(Template(value))
            elif key == "next":
                question, target = value.rsplit(" -> ", 1)
                topic.next.append((Template(question), target))
            else:
                setattr(topic, key, Template(value))
    for topic in topics.values():
        assert topic.a, topic.id
        assert all(target in topics for _, target in topic.next), topic.id
    return topics


def load_keywords(topics, unknown):
    for line in (CONTENT / "keywords.txt").read_text().splitlines():
        if line.strip() and not line.startswith("# "):
            ident, value = line.split(":", 1)
            target = unknown if ident == "unknown" else topics[ident]
            target.keywords = [[w.strip() for w in v.split(" + ")] for v in value.split(" ; ")]
    return [w for line in (CONTENT / "words.txt").read_text().splitlines() if not line.startswith("#") for w in line.split()]


class Unknown:
    """Questions about the rest of the world, and the honest answers to them."""

    def __init__(self):
        self.lists, self.q, self.a, self.unclear, self.hold, self.keywords = {}, [], [], [], [], []
        section = None
        for line in (CONTENT / "unknown.txt").read_text().splitlines():
            if line.startswith("## "):
                section = line[3:]
            elif line.strip() and not line.startswith("# "):
                if section == "lists":
                    key, value = line.split(":", 1)
                    self.lists[f"<{key}>"] = [v.strip() for v in value.split(" ; ")]
                else:
                    getattr(self, section).append(line if section == "hold" else Template(line))
        self.weights = [min(t.weight, 60) ** 0.5 for t in self.q]

    def question(self, rng):
        def bind(slot):
            return rng.choice(self.lists[slot]) if slot in self.lists else SLOT_MAKERS[slot](rng)
        return rng.choices(self.q, self.weights)[0].draw(rng, bind)

    def answer(self, rng):
        return tidy(rng.choice(self.a).draw(rng))

    def puzzled(self, rng):
        return tidy(rng.choice(self.unclear).draw(rng))


# ---------------------------------------------------------------------------------------------- question frames

WHAT_FRAMES = [Template(t) for t in """
{what is|what's|whats|what are|what exactly is} <x>
{explain|describe|define} <x>{| to me| briefly| in simple words}
{tell me|can you tell me|could you tell me} {|something |more |a bit }about <x>
{can you|could you|please} explain <x>{| to me}
what does <x> mean
what do you mean {by|with} <x>
<x>
{what do you|do you} know about <x>
I have a question about <x>
I {don't|do not} {understand|know} {|what }<x>{| is}
what is <x> {for|good for|used for}
what does <x> do
how does <x> work
{I heard|I read|someone told me} about <x>, what is it
{I'd like|I would like|I want} to {know|learn} {more |something |}about <x>
{help|info|information} {on|about|with} <x>
what is meant by <x>
why {do I need|would I use|is there} <x>
{so |}<x>, what is {that|it}
""".strip().splitlines()]
USE_FRAMES = [Template(t) for t in """
how {do I|can I|should I|to} use <x>
what is <x>
what does <x> {do|mean}
{when|why} {do|would|should} I use <x>
what is the {purpose|meaning} of <x>
show me how to use <x>
can I use <x>
""".strip().splitlines()]
ALSO_FRAMES = [Template(t) for t in """
{and|but|ok and|so} <x>
{what|how} about <x>
and what {is|about|does} <x>{| then| mean}
{ok, |and |}tell me about <x>{| too}
now <x>
{and |}what was <x> again
{|and |ok, }explain <x>
can you also explain <x>
you {mentioned|said} <x>, what is that
""".strip().splitlines()]
DO_FRAMES = [Template(t) for t in """
how {do I|can I|do you|to|would I|should I|does one|could I|can one|do we|can we} <x>
how {do I|can I|to} <x> {with WhisperEngine|in WhisperEngine|here|with this program|on my {computer|machine|laptop}}
{I want|I'd like|I would like|I need|I have|I am trying|I'm trying|I wish|I was hoping} to <x>
{tell me|show me|explain|can you tell me|could you tell me|can you show me|please explain|do you know|teach me|can you explain|please tell me} how {to|I can|I} <x>
{what is|what's} the {command|best way|way|easiest way|right way|option} to <x>
{which|what} command {do I use|do I need|should I use|lets me|can I use} {|to }<x>
what do I {do|type|have to do|need|enter|need to do} {|in order }to <x>
{help me|help me to|please|please help me} <x>
<x>
{I don't know|I can't figure out|I don't understand|not sure|I forgot|no idea} how to <x>
{where|when} {can|do} I <x>
{steps to|the way to|command to|command for how to} <x>
{how|what} {about trying|if I want} to <x>
""".strip().splitlines()]
CAN_FRAMES = [Template(t) for t in """
{can I|can you|could I|may I|am I able to|can it|can WhisperEngine} <x>
is {it possible|there a way|there a command|there any way|there an option} to <x>
{does it|does WhisperEngine|will it} let me <x>
""".strip().splitlines()]
KEYWORD_FRAMES = [Template(t) for t in """
{what|tell me|anything|something|a question|I have a question|info|I wonder|I'm curious} {about|regarding|concerning} <x>
{how|what|where|why|when|who|which} {is|are|does|do|can|would|about|should} {I|you|it|we|one|there|} <x>
{I|we|my friend|you} {want|need|would like|have|got|tried|think about|look for|am looking for|asked for|wonder about} <x>
{can|could|would|may|might|must|shall|will} {I|you|it|we|one} {have|get|do|see|try|} <x>
{is|are} there {a way|anything|something|some|any|a tool|a command|} {for|about|to|with|} <x>
{is|was|are} {it|that|this|you} {about|} <x>
<x>{| please| thanks| now}
{the|a|my|your|some} <x>
{it|this|that} {is|says|has|wants|was} <x>
{I'd like|I want|I hope|I plan|I need|I never want} {to|} <x>
{give|show|tell|bring} me <x>
{explain|describe|clarify} <x>
{what|how} {happens|works|goes} {with|when|if|} <x>
<x> {how|what|why|where|which one|possible}
{suppose|imagine|let's say|assume} <x>
{could it be|is it true|do you mean|does that mean} <x>
{help|advice|tips|hints} {with|for|on|} <x>
""".strip().splitlines()]
DO_NEXT_FRAMES = [Template(t) for t in """
{and|ok, and|ok and|then|so|and then|good, and|thanks, and|but} {how do I|how can I|can I|where do I|how to} <x>
{now|next} {I want to|how do I|I need to} <x>
what if I want to <x>
""".strip().splitlines()]

ASK_EXAMPLE = Template("{give me an example|an example|example|for example|{can|could} you {give|show} me an example|show me|"
                       "show me an example|what does that look like|can I see an example|do you have an example|"
                       "an example please|how does that look|example please|like what}")
ASK_SHORT = Template("{shorter|shorter please|in one sentence|in one sentence please|tldr|tl;dr|too long|make it shorter|in short|"
                     "can you make it shorter|just the short version|be brief|summarize that|briefly please|"
                     "can you say that in one sentence|the short version please|keep it short|sum it up}")
ASK_MORE = Template("{tell me more|more|more please|go on|more details|more details please|what else|can you elaborate|continue|"
                    "tell me more about {it|that|this}|I want to know more|and what else|anything else|please go on|and|"
                    "can you tell me more|is there more|elaborate|more information|more about that|anything else I should know}")
ASK_AGAIN = Template("{can you repeat that|say that again|repeat|I don't understand|I did not understand|what do you mean|"
                     "explain that again|can you explain that again|simpler please|in other words|I don't get it|"
                     "what does that mean|once more please|say it differently|come again|huh|I am confused|what|"
                     "can you rephrase that|I still don't understand|that was too fast}")
ASK_SURE = Template("{are you sure|really|is that true|is that right|are you certain|is that correct|do you really mean that|"
                    "seriously|can I trust that|are you really sure}")
SAY_EXAMPLE = Template("{For example: |Here is an example: |An example: |}")
SAY_SHORT = Template("{|In short: |Briefly: }")
SAY_AGAIN = Template("{In other words: |Let me say it differently. |In short: |Once more: }")
SAY_SURE = Template("{Yes, as far as I know.|Yes, I think so.|I believe so.|Yes.} {{`--help` {shows|has} the exact {details|options}.|"
                    "I am a small model, so check with `--help` if it matters.}|}")
SAY_NO_MORE = Template("{That is all I know about it.|I don't know more about that.|That's all I know.} "
                       "{`--help` {tells|says} more.|Ask me something else about WhisperEngine.|The documentation {says|tells} more.}")

PREFIX = Template("{hi, |hello, |hey, |ok, |okay, |so |so, |hey |hi |please |excuse me, |quick question: |well, |one question: |um, |thanks, |"
                  "and |also, |another question: |alright, |good, |hello! |now |sorry, |hm, |say, }")
SUFFIX = Template("{ please|, please| thanks|, thanks| now| exactly| here| in WhisperEngine| with WhisperEngine| on my machine| on this machine|"
                  " on my laptop| then|, can you help|, do you know|, any idea| in the terminal}")
FIRST_NAMES = """Anna Ben Clara David Emma Felix Greta Henry Ines Jack Kate Leo Maria Nils Olga Paul Rosa Sam Tina Uwe Vera Will
Yara Zoe Ali Bao Chen Diego Fatima Hana Ivan Jin Kofi Lara Mehmet Nina Omar Priya Raj Sofia Tom Lucy Mark Alex Chris Max Julia
Peter Laura Simon Eva Jonas Mia Noah Liam Ella Oscar Hugo Ada Iris Otto""".split()
TELL_NAME = Template("{my name is <x>|I am <x>|I'm <x>|call me <x>|you can call me <x>|hi, I am <x>|hello, my name is <x>|hey, I'm <x>|this is <x>}")
SAY_NAME = Template("{Nice to meet you, <x>!|Hello <x>!|Hi <x>, nice to meet you!} {How can I help you?|What would you like to know?|"
                    "What can I do for you?|Ask me about running, downloading or converting models.}")
ASK_NAME = Template("{what is my name|what's my name|do you know my name|do you remember my name|who am I|tell me my name|what did I say my name was}")
SAY_KNOWN_NAME = Template("{Your name is <x>.|You told me that your name is <x>.|You are <x>.}{| How can I help you, <x>?}")
SAY_NO_NAME = Template("{You have not told me your name yet.|I don't know your name yet.|You haven't told me.} {What is it?|What should I call you?}")

OTHER_SYSTEMS = """You are a helpful assistant.
You are a helpful and friendly assistant.
You are an assistant that helps with WhisperEngine.
You are WhisperEngine's assistant. Help the user.
Be helpful, honest and polite.
You are a kind teacher.
You are an expert in local language models.
You help beginners.
Answer the user's questions.
You are a pirate. Talk like one.
You are a helpful AI assistant. Be polite.
Help the user with models, commands and settings.""".splitlines()
BRIEF_SYSTEMS = """Answer in one sentence.
Answer very briefly.
Be brief.
You are a helpful assistant. Keep your answers short.
Keep it short.
Answer as briefly as possible.
Reply in a single sentence.""".splitlines()
PERSONA_SYSTEMS = [Template(t) for t in ("Your name is <x>.", "You are <x>, a helpful assistant.", "You are <x>.",
                                         "You are an assistant called <x>.", "Your name is <x>. Help the user with WhisperEngine.")]
SAY_PERSONA = Template("{I am <x>, {a small model that runs on your machine|your assistant for WhisperEngine}.|My name is <x>.} "
                       "{How can I help you?|I can help with running, pulling and converting models.|Ask me about WhisperEngine.}")

# ---------------------------------------------------------------------------------------------- how people type

CONTRACTIONS = [("do not", "don't"), ("don't", "dont"), ("can't", "cant"), ("what is", "whats"), ("what is", "what's"),
                ("I am", "I'm"), ("I am", "im"), ("is not", "isn't"), ("does not", "doesn't"), ("you", "u"), ("please", "pls"),
                ("how do I", "how do i"), ("I would", "I'd"), ("doesn't", "doesnt"), ("want to", "wanna"), ("are", "r"), ("that is", "that's"),
                ("because", "cuz"), ("thanks", "thx"), ("okay", "ok"), ("download", "dl"), ("the model", "the LLM"), ("a model", "an LLM"), ("models", "LLMs")]
SYNONYMS = {"download": ["get", "fetch", "obtain", "grab", "download"], "delete": ["remove", "erase", "delete", "drop"],
            "show": ["display", "print", "show"], "start": ["launch", "start", "begin with", "open", "fire up"],
            "computer": ["machine", "laptop", "PC", "notebook", "system", "box"], "machine": ["computer", "laptop", "PC", "system", "hardware"],
            "use": ["use", "work with", "utilize", "employ"], "big": ["large", "huge", "big"], "bigger": ["larger", "stronger", "bigger"],
            "quickly": ["fast"], "change": ["modify", "change", "alter", "edit", "switch"], "folder": ["directory", "folder", "dir"],
            "memory": ["RAM", "memory", "ram"], "command": ["command", "cmd", "instruction"], "explain": ["explain", "clarify"],
            "slow": ["slow", "sluggish", "laggy"], "error": ["error", "error message", "failure"], "find": ["find", "locate", "discover"],
            "convert": ["convert", "transform", "change", "port"], "answer": ["answer", "reply", "response"], "answers": ["answers", "replies", "responses", "outputs"],
            "measure": ["measure", "test", "check", "determine"], "see": ["see", "view", "look at", "check"], "need": ["need", "require", "need"],
            "make": ["make", "create", "produce"], "settings": ["settings", "options", "preferences"], "limit": ["limit", "cap", "restrict"],
            "set": ["set", "specify", "define", "adjust"], "program": ["program", "app", "tool", "software", "application"],
            "choose": ["choose", "select", "pick"], "works": ["works", "functions"], "good": ["good", "decent", "suitable"], "stop": ["stop", "halt", "end"],
            "possible": ["possible", "doable"], "which": ["which", "what"], "quit": ["quit", "leave", "exit"], "text": ["text", "document"]}
DROPPABLE = {"the", "a", "an", "do", "I", "to", "is", "my", "please", "me", "of"}


def typo(word, rng):
    i = rng.randrange(len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2:]
    if kind == 1:
        return word[:i] + word[i + 1:]
    if kind == 2:
        return word[:i] + word[i] + word[i:]
    return word[:i] + rng.choice(LETTERS) + word[i + 1:]


def sprinkle(text, words, rng):
    """Put a few empty words anywhere."""
    parts = text.split(" ")
    for _ in range(rng.choice([1, 1, 2, 3])):
        parts.insert(rng.randint(0, len(parts)), rng.choice(words))
    return " ".join(parts)


def as_typed(text, rng, wrap=True):
    """The question as someone types it: politeness, capitals, punctuation, abbreviations and slips."""
    text = tidy(text)
    end = text[-1:] in "?!."
    if wrap and rng.random() < 0.18:
        text = PREFIX.draw(rng) + (text[0].lower() + text[1:] if not re.match(r"I\b|[A-Z]{2}", text) else text)
    if wrap and not end and rng.random() < 0.10:
        text += SUFFIX.draw(rng)
    if rng.random() < 0.2:
        old, new = rng.choice(CONTRACTIONS)
        text = re.sub(rf"\b{old}\b", new, text)
    words = text.split(" ")
    if wrap and rng.random() < 0.35:
        at = [i for i, w in enumerate(words) if w in SYNONYMS]
        if at:
            i = rng.choice(at)
            words[i] = rng.choice(SYNONYMS[words[i]])
    if len(words) > 4 and rng.random() < 0.08:
        at = [i for i, w in enumerate(words) if w in DROPPABLE]
        if at:
            del words[rng.choice(at)]
    if wrap and len(words) >= 5 and rng.random() < 0.05:     # an unknown word must not hide the rest
        at = [i for i, w in enumerate(words) if w.isalpha() and w.islower()]
        if at:
            words[rng.choice(at)] = pseudo_word(rng)
    if rng.random() < 0.15:
        for _ in range(rng.choice([1, 1, 2])):
            at = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha() and w.islower()]
            if at:
                i = rng.choice(at)
                words[i] = typo(words[i], rng)
    text = " ".join(words)
    style = rng.random()
    if style < 0.45 and text:
        text = text[0].upper() + text[1:]
    elif style < 0.60:
        text = " ".join(w.lower() if w.isalpha() else w for w in text.split(" "))
    elif style < 0.61:
        text = text.upper() if not re.search(r"[-/_`]", text) else text
    if not end and text[-1:] not in "?!.":
        question = bool(re.match(r"(?i)(\w+, )?(how|what|wh|can|could|is|are|do|does|did|may|will|and|would)", text))
        draw = rng.random()
        if question:
            text += "?" if draw < 0.6 else "??" if draw < 0.62 else ""
        else:
            text += "." if draw < 0.2 else "?" if draw < 0.3 else "!" if draw < 0.33 else ""
    return text


# ---------------------------------------------------------------------------------------------- conversations

BOOST = {"run_model": 3, "pull": 3, "convert": 2.5, "list": 2, "recommend": 2.5, "we": 3, "getting_started": 2, "whoareyou": 2.5, "greet": 3,
         "canyoudo": 2.5, "backends": 1.5, "convert_q": 1.5, "chat": 1.5, "e_path": 1.5, "e_oom": 1.5, "mem_8": 1.5, "mem_16": 1.3, "quit": 1.3,
         "language": 0.8, "thanks": 1.5, "ok": 1.2, "config": 1.5, "help": 1.3, "howareyou": 1.5, "doctor": 1.3, "supported": 1.2}
SOCIAL = ["ok", "thanks", "compliment", "laugh", "no", "yes", "bye", "insult", "sorry"]
NO_YES = {"serve", "c_train", "dequant", "no_failover"}
SETTING_NAME = re.compile(r"^`?(--|-|whisperengine |[A-Z_]{6,}|\w+://)|command$|^/")


class Writer:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.topics = load_topics()
        self.unknown = Unknown()
        self.words = load_keywords(self.topics, self.unknown)
        self.ids = list(self.topics)
        self.weights = []
        for t in self.topics.values():
            size = len(t.q) + len(t.do) + len(t.names)
            self.weights.append((1 + size) ** 0.5 * BOOST.get(t.id, 1) * (0.55 if t.kind == "smalltalk" else 1))
        self.named = [t for t in self.topics.values() if t.names and t.kind != "smalltalk"]

    # -- one question, not typed yet; says whether it asks "can I ..."
    def question(self, topic, bind, follow=False):
        rng = self.rng
        if topic.keywords and rng.random() < (0.25 if topic.kind == "smalltalk" else 0.35):
            return self.from_keywords(topic, bind), False
        draw = bind.ask(rng)
        sizes = [len(topic.names) ** 0.5 * 1.5, len(topic.do) ** 0.5 * 2.5, sum(t.weight for t in topic.q) ** 0.3 * 1.5 if topic.q else 0]
        kind = rng.choices("ndq", sizes)[0]
        if kind == "q":
            weights = [t.weight ** 0.4 for t in topic.q]
            return rng.choices(topic.q, weights)[0].draw(rng, draw), False
        if kind == "n":
            x = rng.choice(topic.names).draw(rng, draw)
            if topic.id.startswith("mem_"):
                return rng.choice(["and with ", "with ", "what about ", "and for ", "I have ", "which model for "]) + x, False
            if follow and rng.random() < 0.6:
                frames = ALSO_FRAMES
            else:
                frames = USE_FRAMES if SETTING_NAME.search(x) and rng.random() < 0.5 else WHAT_FRAMES
            return self.frame(frames, x), False
        x = rng.choice(topic.do).draw(rng, draw)
        if follow and rng.random() < 0.5:
            return self.frame(DO_NEXT_FRAMES, x), False
        if rng.random() < 0.17:
            return self.frame(CAN_FRAMES, x), True
        return self.frame(DO_FRAMES, x), False

    def from_keywords(self, source, bind=None):
        """A question in any wording that holds the words which point to the topic."""
        rng = self.rng
        parts = list(rng.choice(source.keywords))
        if rng.random() < 0.15:
            parts += rng.choice(source.keywords)
        if len(parts) > 1 and rng.random() < 0.4:
            rng.shuffle(parts)
        x = parts[0]
        for part in parts[1:]:
            glue = [""] if rng.random() < 0.3 else rng.choices(["a", "the", "my", "of", "and", "in", "to", "for", "with", "this", "any"], k=rng.choice([1, 1, 2]))
            x += " " + " ".join(glue) + " " + part
        if bind is not None and source.id in ("run_model", "pull", "rm", "info", "bench", "verify") and rng.random() < 0.5:
            if re.search(r"\bmodel\b", x):
                slot = "<repo>" if source.id == "pull" and rng.random() < 0.6 else "<m>"
                x = re.sub(r"(a |my |the )?\bmodel\b", lambda _: bind.ask(rng)(slot), x, count=1)
        if rng.random() < 0.75:
            x = self.frame(KEYWORD_FRAMES, x)
        return sprinkle(x, self.words, rng) if rng.random() < 0.5 else x

    def salad(self):
        """Words that are no question."""
        rng = self.rng
        words = rng.choices(self.words, k=rng.randint(1, 7))
        if rng.random() < 0.4:
            words[rng.randrange(len(words))] = pseudo_word(rng)
        x = " ".join(words)
        return self.frame(KEYWORD_FRAMES, x) if rng.random() < 0.5 else x

    def frame(self, frames, x):
        weights = [min(f.weight, 24) ** 0.5 for f in frames]
        return self.rng.choices(frames, weights)[0].draw(self.rng, lambda _: x)

    def answer(self, topic, bind, can=False, brief=False):
        rng = self.rng
        if brief and topic.short:
            return tidy(topic.short.draw(rng, bind.answer(topic.id)))
        text = tidy(rng.choice(topic.a).draw(rng, bind.answer(topic.id)))
        if brief:
            return re.split(r"(?<=[.!?]) ", text)[0]
        if can and topic.id not in NO_YES and not re.match(r"(Yes|No|Not|A |Training)\b", text) and rng.random() < 0.6:
            text = rng.choice(["Yes. ", "Yes. ", "Yes, you can. "]) + text
        return text

    def system(self):
        """A system prompt, whether it wants brief answers, and the name it gives the assistant."""
        draw = self.rng.random()
        if draw < 0.76:
            return DEFAULT_SYSTEM, False, None
        if draw < 0.87:
            return self.rng.choice(OTHER_SYSTEMS), False, None
        if draw < 0.94:
            return self.rng.choice(BRIEF_SYSTEMS), True, None
        name = self.rng.choice(FIRST_NAMES)
        return self.rng.choice(PERSONA_SYSTEMS).draw(self.rng, lambda _: name), False, name

    def conversation(self, n_turns=None):
        """[(role, text), ...] beginning with a system message, and the topic ids of the turns."""
        rng = self.rng
        if n_turns is None:
            n_turns = rng.choices([1, 2, 3, 4, 5, 6, 8, 12, 20], [20, 20, 18, 14, 10, 7, 6, 4, 1])[0]
        system, brief, persona = self.system()
        messages, ids = [("system", system)], []
        topic, bind, told, user_name = None, Binding(), set(), None
        for turn in range(n_turns):
            question = answer = None
            draw = rng.random()
            if topic is not None and turn:
                if topic.next and draw < 0.30:
                    if not bind:
                        bind.update(topic.about)
                    template, target = rng.choice(topic.next)
                    question = as_typed(template.draw(rng, bind.ask(rng)), rng, wrap=rng.random() < 0.3)
                    topic, told = self.topics[target], set()
                    answer = self.answer(topic, bind, brief=brief)
                elif draw < 0.46 and topic.kind != "smalltalk":
                    question, answer = self.about_the_last(topic, bind, told)
            if question is None and draw > 0.97:
                if turn == 0 or rng.random() < 0.5:
                    user_name = rng.choice(FIRST_NAMES)
                    question, answer = (t.draw(rng, lambda _: user_name) for t in (TELL_NAME, SAY_NAME))
                else:
                    question = ASK_NAME.draw(rng)
                    answer = (SAY_KNOWN_NAME if user_name else SAY_NO_NAME).draw(rng, lambda _: user_name)
                question = as_typed(question, rng, wrap=False)
                answer, topic = tidy(answer), None
                ids.append("name")
            elif question is None and draw > 0.885:
                kind = rng.random()
                if kind < 0.20:
                    question, answer = self.salad(), self.unknown.puzzled(rng)
                else:
                    question = self.unknown.question(rng) if kind < 0.65 else self.from_keywords(self.unknown)
                    answer = self.unknown.answer(rng)
                question = as_typed(question, rng, wrap=rng.random() < 0.4)
                if brief:
                    answer = re.split(r"(?<=[.!?]) ", answer)[0]
                topic = None
                ids.append("unknown")
            elif question is None:
                if turn == 0 and rng.random() < 0.16:
                    new = self.topics["greet"]
                elif turn and rng.random() < 0.10:
                    new = self.topics[rng.choice(SOCIAL)]
                elif turn and topic is not None and rng.random() < 0.25:
                    new = rng.choice(self.named)
                else:
                    new = self.topics[rng.choices(self.ids, self.weights)[0]]
                bind, told = Binding(), set()
                question, can = self.question(new, bind, follow=turn > 0 and rng.random() < 0.4)
                if rng.random() < 0.08:
                    question = sprinkle(question, self.words, rng)
                question = as_typed(question, rng, wrap=new.kind != "smalltalk" or rng.random() < 0.1)
                answer = self.answer(new, bind, can, brief)
                if persona and new.id in ("whoareyou", "greet") and rng.random() < (1 if new.id == "whoareyou" else 0.5):
                    answer = tidy(SAY_PERSONA.draw(rng, lambda _: persona))
                topic = new
                ids.append(new.id)
            else:
                ids.append(topic.id)
            messages += [("user", question), ("assistant", answer)]
        return messages, ids

    def about_the_last(self, topic, bind, told):
        rng = self.rng
        draw = bind.answer(topic.id)
        kind = rng.choices(["ex", "short", "more", "again", "sure"], [3, 2, 4, 2.5, 1.5])[0]
        if kind == "ex" and topic.ex:
            ask, answer = ASK_EXAMPLE, SAY_EXAMPLE.draw(rng) + topic.ex.draw(rng, draw)
        elif kind == "short" and topic.short:
            ask, answer = ASK_SHORT, SAY_SHORT.draw(rng) + topic.short.draw(rng, draw)
        elif kind == "more" and topic.more:
            ask, answer = ASK_MORE, (SAY_NO_MORE.draw(rng) if "more" in told else topic.more.draw(rng, draw))
            told.add("more")
        elif kind == "again" and topic.short:
            ask, answer = ASK_AGAIN, SAY_AGAIN.draw(rng) + topic.short.draw(rng, draw)
        elif kind == "sure":
            ask, answer = ASK_SURE, SAY_SURE.draw(rng)
        else:
            return None, None
        return as_typed(ask.draw(rng), rng, wrap=rng.random() < 0.2), tidy(answer)

    def document(self):
        """Plain prose: what the topics say, one after the other, or simple English sentences."""
        rng = self.rng
        if rng.random() < 0.5:
            return " ".join(tidy(SENTENCE.draw(rng)) for _ in range(rng.randint(3, 10)))
        parts = []
        for topic in rng.sample(self.named, rng.randint(2, 6)):
            bind = Binding()
            parts.append(self.answer(topic, bind))
            if topic.more and rng.random() < 0.5:
                parts.append(tidy(topic.more.draw(rng, bind.answer(topic.id))))
        return rng.choice([" ", "\n\n"]).join(parts)


PERSON = "{the teacher|a student|my friend|the woman|an old man|the child|our neighbour|the engineer|a writer|the doctor|she|he|everyone|the user|a programmer}"
OBJECT = "{a book|the computer|a long letter|the answer|some water|the garden|a new program|the red car|a small house|the question|her work|a good idea|the file|a model|two words|the old machine|a map}"
PLACE = "{in the city|at home|in the garden|at school|near the river|in the office|on the train|in the morning|after lunch|every day|last week|in the evening|for the first time|with great care}"
SENTENCE = Template(
    "{" + PERSON + " {reads|writes|sees|finds|needs|likes|buys|uses|knows|wants|remembers|opens|builds} " + OBJECT + " " + PLACE + "."
    "|When " + PERSON + " {comes|is|works|stays} " + PLACE + ", there is {much|little|nothing|always something} to do."
    "|If you {have|use|want|find} " + OBJECT + ", you {can|should|may|must} {look at it|think about it|ask for help|try it} {first|now|again|later}."
    "|It is {easy|hard|possible|good|important} to {use|find|understand|make|read} " + OBJECT + ", because " + PERSON + " {knows|needs|likes} it."
    "|" + PERSON + " said that " + OBJECT + " was {better|larger|smaller|older|newer|faster} than {before|the other one|expected}."
    "|There {is|was} " + OBJECT + " " + PLACE + ", and {nobody|everybody|" + PERSON + "} {saw|wanted|used} it."
    "|Both the {first|last} and the {second|next} {day|page|part|answer} {were|are} {good|long|short|clear|difficult}.}")


def held_out(topics, unknown, seed=7):
    """Questions that training never sees: (right topics, question) in two sets. The first guided the work on the content
    (its words are partly among the keywords), the second did not."""
    rng = random.Random(seed)
    first = [({t.id}, tidy(h.draw(rng, Binding().ask(rng)))) for t in topics.values() for h in t.hold]
    first += [({"unknown"}, q) for q in unknown.hold]
    second = [line.split(": ", 1) for line in (CONTENT / "heldout.txt").read_text().splitlines() if not line.startswith("#")]
    return {"first": first, "second": [(set(ids.split("|")), q) for ids, q in second]}


if __name__ == "__main__":
    import sys
    writer = Writer(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 5):
        for role, text in writer.conversation()[0]:
            print(f"{role:>9}  {text}")
        print()
