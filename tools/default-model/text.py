# SPDX-License-Identifier: Apache-2.0
"""The tokenizer and the chat format: training of the one, token ids and loss weights in the other."""
import json
import os
import random

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from dialogues import DEFAULT_SYSTEM, Writer  # noqa: E402

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}\n"
    "{{- '<|im_start|>system\\n" + DEFAULT_SYSTEM + "<|im_end|>\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] | trim) + '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}\n")


def train_tokenizer(vocab_size, seed, n=30000):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    writer = Writer(seed)

    def texts():
        for i in range(n):
            for _, text in writer.conversation()[0]:
                yield text
            if i % 10 == 0:
                yield writer.document()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=3, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=[AddedToken(t, special=True, normalized=False) for t in (END_OF_TEXT, IM_START, IM_END)])
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def tokenizer_config(context):
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "add_bos_token": False, "bos_token": None,
            "eos_token": IM_END, "pad_token": END_OF_TEXT, "unk_token": None, "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE}


class ChatFormat:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.end_of_text, self.im_start, self.im_end = (tokenizer.token_to_id(t) for t in (END_OF_TEXT, IM_START, IM_END))
        self.heads = {role: [self.im_start] + self.encode(role + "\n") for role in ("system", "user", "assistant")}
        self.newline = self.encode("\n")
        self.rough = Tokenizer.from_str(tokenizer.to_str())     # splits words at random, so that no spelling is unseen
        self.rough.model.dropout = 0.1
        self.rng = random.Random(0)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids)

    def prompt(self, messages):
        ids, _ = self.conversation(messages)
        return ids + self.heads["assistant"]

    def conversation(self, messages, rough=0.0):
        """Token ids, and for each its weight as a target: answers count fully, what users say only a little.

        `rough` is the share of user messages that are tokenized with dropout.
        """
        ids, weights = [], []
        bodies = self.tokenizer.encode_batch([text for _, text in messages], add_special_tokens=False)
        for (role, text), body in zip(messages, bodies):
            head, body = self.heads[role], body.ids
            if role == "user" and self.rng.random() < rough:
                body = self.rough.encode(text, add_special_tokens=False).ids
            ids += head + body + [self.im_end] + self.newline
            answer = role == "assistant"
            weights += [0.0] * len(head) + [1.0 if answer else 0.1 if role == "user" else 0.0] * len(body)
            weights += [1.0 if answer else 0.1, 0.0]
        return ids, weights

    def document(self, text):
        ids = [self.end_of_text] + self.encode(text) + [self.end_of_text]
        return ids, [0.0] + [0.5] * (len(ids) - 1)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
