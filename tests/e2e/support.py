# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: running the command in a home of its own, models whose every answer is known, and a
terminal to type into.

A scripted model is a bigram: embeddings are one-hot, attention and MLP are zero, so the next token follows from the last
one alone. After the head of the assistant's turn it says `pieces` one after the other, then ends its turn (or begins
again with `loop=True`). Ordinary bytes are followed by any token with the same probability: what is sampled after them
depends on nothing but the seed."""
import array
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

SOURCE_DIR = os.environ.get("WE_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD_DIR = os.environ.get("WE_BUILD_DIR") or os.path.join(SOURCE_DIR, "build", "release")
PROGRAM = os.environ.get("WHISPERENGINE") or os.path.join(BUILD_DIR, "whisperengine")
DEFAULT_MODEL = os.path.join(SOURCE_DIR, "models", "default")
TIMEOUT_S = int(os.environ.get("WE_E2E_TIMEOUT_S", "120"))  # a sanitizer build on a busy machine; nothing waits for its end

COMMANDS = ["chat", "run", "pull", "list", "info", "verify", "rm", "bench", "perplexity", "generate", "tokenize", "detokenize",
            "template", "logits", "convert", "backends", "config", "setup", "recommend", "top", "doctor"]


# ---- Running the command ----

class Done:
    """What a run left: `status`, `out` and `err` as bytes."""

    def __init__(self, args, status, out, err):
        self.args, self.status, self.out, self.err = args, status, out, err

    @property
    def text(self):
        return self.out.decode("utf-8")

    @property
    def notes(self):
        return self.err.decode("utf-8", "backslashreplace")

    def json(self):
        return json.loads(self.text)

    def __str__(self):
        return (f"\n  $ whisperengine {' '.join(map(str, self.args))}\n  status {self.status}\n"
                f"  stdout {self.out[:2000]!r}\n  stderr {self.err[:2000]!r}")


class EndToEnd(unittest.TestCase):
    """A test with a folder of its own: `self.dir` is the working directory, `self.home` the home folder."""
    maxDiff = None

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="we-e2e-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.home = os.path.join(self.dir, "home")
        self.models = os.path.join(self.dir, "models")
        os.makedirs(self.home)
        os.makedirs(os.path.join(self.models, "mlx"))
        self.runtime = os.path.join(self.dir, "run")  # where running processes leave their figures
        os.makedirs(self.runtime, mode=0o700)

    def environment(self, **changes):
        drop = ("LLM_CHAT_API_URL", "OLLAMA_HOST", "OLLAMA_MODELS", "LMSTUDIO_HOST", "LM_API_TOKEN", "WE_PYTHON", "NO_COLOR",
                "WHISPERENGINE_MODEL")
        env = {k: v for k, v in os.environ.items()
               if k not in drop and not k.startswith(("MLX_", "XDG_", "HF_", "HUGGINGFACE_", "LLM_CHAT_", "FALLBACK_MODEL_", "WE_LOG", "OPENAI_"))}
        env.update(HOME=self.home, LOCAL_MODELS_DIR=self.models, XDG_RUNTIME_DIR=self.runtime,
                   HF_ENDPOINT="http://127.0.0.1:1", TERM="xterm-256color", LC_ALL="C.UTF-8")
        env.update({k: v for k, v in changes.items() if v is not None})
        return env

    def run_we(self, *args, stdin=b"", env=None, status=0, cwd=None):
        """Run the command; with `status` not None its exit status must be that."""
        if isinstance(stdin, str):
            stdin = stdin.encode("utf-8")
        p = subprocess.run([PROGRAM, *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           cwd=cwd or self.dir, env=self.environment(**(env or {})), timeout=TIMEOUT_S)
        done = Done(args, p.returncode, p.stdout, p.stderr)
        for sign in ("Sanitizer", "runtime error:"):
            self.assertNotIn(sign, done.notes, f"a sanitizer complained{done}")
        self.assertGreaterEqual(p.returncode, 0, f"ended by signal {-p.returncode}{done}")
        if status is not None:
            self.assertEqual(p.returncode, status, f"exit status, expected {status}{done}")
        return done

    def fails(self, *args, says, status=1, **kw):
        """The command fails with nothing on standard output, and standard error says all of `says`."""
        done = self.run_we(*args, status=status, **kw)
        self.assertEqual(done.out, b"", f"a failure must leave standard output empty{done}")
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.notes, f"the message must say {word!r}{done}")
        return done

    def usage(self, *args, says, **kw):
        return self.fails(*args, says=says, status=2, **kw)

    def write(self, name, content):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    def scripted(self, name="scripted", **kw):
        """A scripted model below $LOCAL_MODELS_DIR/mlx; gives its folder."""
        return ScriptedModel(**kw).save(os.path.join(self.models, "mlx", name))


# ---- Models ----

def byte_alphabet():
    """GPT-2's: a printable character for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in keep]
    table = {b: chr(b) for b in keep}
    table.update({b: chr(256 + i) for i, b in enumerate(others)})
    return table


def safetensors(tensors):
    """{name: (dtype, shape, bytes)} as a file's bytes."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def f32(values):
    a = array.array("f", values)
    if sys.byteorder == "big":
        a.byteswap()
    return a.tobytes()


TEMPLATE = ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")
SPECIALS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
END, SYSTEM, USER, ASSISTANT = range(256, 260)
FIRST_PIECE = 260
VOCAB = HIDDEN = 320  # ten heads of 32


class ScriptedModel:
    def __init__(self, pieces=("Hello", ", ", "wor", "ld!"), loop=False, template=TEMPLATE, tokenizer=True, config=None,
                 generation_config=None, context=4096, begin=ASSISTANT):
        self.pieces = [p.encode("utf-8") if isinstance(p, str) else p for p in pieces]
        assert FIRST_PIECE + len(self.pieces) <= VOCAB and self.pieces
        self.loop, self.template, self.tokenizer = loop, template, tokenizer
        self.generation_config, self.begin = generation_config, begin
        self.config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 10, "num_key_value_heads": 1, "head_dim": 32,
            "vocab_size": VOCAB, "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "eos_token_id": END, "torch_dtype": "float32",
        }
        self.config.update(config or {})

    def text(self):
        return b"".join(self.pieces).decode("utf-8")

    def ids(self):
        return list(range(FIRST_PIECE, FIRST_PIECE + len(self.pieces)))

    def tensors(self):
        zeros = lambda rows, columns: ("F32", (rows, columns), bytes(4 * rows * columns))
        embed, head = [0.0] * (VOCAB * HIDDEN), [0.0] * (VOCAB * HIDDEN)
        for t in range(VOCAB):
            embed[t * HIDDEN + t] = 1.0
        chain = [self.begin, *self.ids()]
        chain.append(FIRST_PIECE if self.loop else END)
        for last, following in zip(chain, chain[1:]):
            head[following * HIDDEN + last] = 4.0  # times sqrt(HIDDEN) from the norm: a logit of 71 over all others
        layer, kv_rows = "model.layers.0.", 32 * self.config["num_key_value_heads"]
        ones = ("F32", (HIDDEN,), f32([1.0] * HIDDEN))
        return {
            "model.embed_tokens.weight": ("F32", (VOCAB, HIDDEN), f32(embed)),
            layer + "input_layernorm.weight": ones,
            layer + "self_attn.q_proj.weight": zeros(320, HIDDEN),
            layer + "self_attn.k_proj.weight": zeros(kv_rows, HIDDEN),
            layer + "self_attn.v_proj.weight": zeros(kv_rows, HIDDEN),
            layer + "self_attn.o_proj.weight": zeros(HIDDEN, 320),
            layer + "post_attention_layernorm.weight": ones,
            layer + "mlp.gate_proj.weight": zeros(32, HIDDEN),
            layer + "mlp.up_proj.weight": zeros(32, HIDDEN),
            layer + "mlp.down_proj.weight": zeros(HIDDEN, 32),
            "model.norm.weight": ones,
            "lm_head.weight": ("F32", (VOCAB, HIDDEN), f32(head)),
        }

    def tokenizer_json(self):
        alphabet = byte_alphabet()
        vocab = {alphabet[b]: b for b in range(256)}
        vocab |= {s: 256 + i for i, s in enumerate(SPECIALS)}  # ids below the pieces': only the vocabulary can give them
        for i, piece in enumerate(self.pieces):
            name = "".join(alphabet[b] for b in piece)
            while name in vocab:  # the same text twice: a token of its own all the same
                raise ValueError(f"piece {piece!r} is in the vocabulary already")
            vocab[name] = FIRST_PIECE + i
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 256 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, s in enumerate(SPECIALS)],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": []},
        }

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)

        def put(name, content):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(content if isinstance(content, bytes) else json.dumps(content).encode())

        put("config.json", self.config)
        put("model.safetensors", safetensors(self.tensors()))
        if self.generation_config:
            put("generation_config.json", self.generation_config)
        if self.tokenizer:
            put("tokenizer.json", self.tokenizer_json())
            config = {"eos_token": "<|end|>", "clean_up_tokenization_spaces": False}
            if self.template:
                config["chat_template"] = self.template
            put("tokenizer_config.json", config)
        return folder


# ---- A terminal ----

class Terminal:
    """The command on a terminal of its own. Everything it shows is kept in `shown`."""

    def __init__(self, test, *args, env=None, stdout_to_pipe=False):
        self.test, self.shown, self.args = test, b"", args
        try:
            master, slave = pty.openpty()
        except OSError as e:
            test.skipTest(f"no pseudo terminal on this machine ({e}): is /dev/pts mounted?")
        termios.tcsetwinsize(slave, (40, 100)) if hasattr(termios, "tcsetwinsize") else None

        def begin():  # in the child: the terminal is the controlling one, so that Ctrl-C reaches the command
            os.setsid()
            import fcntl
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([PROGRAM, *map(str, args)], stdin=slave, stdout=slave,
                                        stderr=subprocess.PIPE if stdout_to_pipe else slave, cwd=test.dir,
                                        env=test.environment(**(env or {})), preexec_fn=begin, close_fds=True)
        self.before = termios.tcgetattr(slave)
        os.close(slave)
        self.fd = master
        test.addCleanup(self.close)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read(self, wait_s):
        if not select.select([self.fd], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        self.shown += data
        return bool(data)

    def fail(self, why):
        self.test.fail(f"{why}\n  $ whisperengine {' '.join(map(str, self.args))}\n  the terminal shows {self.shown[-3000:]!r}")

    def expect(self, text, after=0):
        """Wait until `text` is shown behind position `after`; gives the position behind it."""
        text = text.encode("utf-8") if isinstance(text, str) else text
        end = time.monotonic() + TIMEOUT_S
        while text not in self.shown[after:]:
            alive = self._read(0.1) or self.process.poll() is None
            if text in self.shown[after:]:
                break
            if not alive or time.monotonic() > end:
                self.fail(f"{text!r} was not shown")
        return self.shown.index(text, after) + len(text)

    def prompt(self, after=0):
        """Wait for the prompt: it waits for a line."""
        return self.expect("> ", after)

    def type(self, text):
        os.write(self.fd, text.encode("utf-8") if isinstance(text, str) else text)

    def line(self, text):
        """Type a line and wait for the prompt behind what came of it; gives what was shown."""
        at = len(self.shown)
        self.type(text + "\r")
        self.prompt(self.expect("\n", at))
        return self.shown[at:].decode("utf-8", "replace")

    def end(self, status=0):
        """Wait for the end of the command, whose exit status must be `status`."""
        end = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0.05):
            pass
        if self.process.poll() is None:
            self.fail("the command does not end")
        if self.process.returncode != status:
            self.fail(f"exit status {self.process.returncode}, expected {status}")
        return self.shown.decode("utf-8", "replace")


CTRL_C, CTRL_D, ARROW_UP = "\x03", "\x04", "\x1b[A"


def main():
    if not os.path.exists(PROGRAM):
        sys.exit(f"{PROGRAM} is not there: build first, or set WHISPERENGINE")
    unittest.main(module="__main__", verbosity=1)
