# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the packages whose servers WhisperEngine starts: `llama_cpp` and `transformers`, as far as find_spec,
importlib.metadata and `python -m` see them. They are found through PYTHONPATH by the real Python of the test, so the look at the
packages and the supervisor are the real ones; only what listens is a stand-in of standins.py.

    with Packages(self.dir, pieces=["Hel", "lo"]) as packages:
        self.run_we("run", "--model", f"llamacpp://{packages.gguf}", "Hi", env=packages.env)
        packages.starts[-1]["argv"], packages.requests, packages.pids

Each start of a server is noted with its command line, environment, folder and process; each request too. `die_at`: the server
kills itself behind so many pieces, in its first life only where `once` is set."""
import json
import os
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NEEDS = {"llama_cpp": ("uvicorn", "fastapi", "pydantic_settings", "sse_starlette", "starlette_context"),
         "transformers": ("torch", "uvicorn", "fastapi", "pydantic", "openai")}
PROJECTS = {"llama_cpp": ("llama_cpp_python", "0.3.99"), "transformers": ("transformers", "5.99.0")}

# What runs in the server's process: its behaviour is in the file that STAND_IN names.
SERVER = """
import json, os, signal, sys, threading, time
sys.path.insert(0, %(here)r)
with open(os.environ["STAND_IN"]) as f:
    how = json.load(f)
def note(kind, **what):
    with open(how["notes"], "a") as f:
        f.write(json.dumps({"kind": kind, **what}) + "\\n")
def flag(name, value=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else value
def lives():
    with open(how["notes"]) as f:
        return sum('"kind": "start"' in line for line in f)
note("start", pid=os.getpid(), group=os.getpgid(0), argv=sys.argv, env=dict(os.environ), cwd=os.getcwd(), path=sys.path)
if how.get("helper"):  # a process of the server's own
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note("helper", pid=os.getpid())
        while True:
            time.sleep(1)
if how.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in how.get("says", ()):
    print(line, flush=True)
if how.get("flood"):
    for i in range(40000):
        print("line", i, "x" * 100)
if how.get("hang"):
    while True:
        time.sleep(1)
first = lives() == 1
if how.get("taken") and first:
    sys.exit("[Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use")
if "exit" in how and (first or not how.get("once")):
    sys.exit(how["exit"])
from standins import OpenAI
class Server(OpenAI):
    def handle(self, h, request):
        note("request", path=request.path, headers=request.headers, body=request.body.decode() or None)
        if request.path == "/health":
            self.send(h, 200, {"status": "ok"})
        else:
            super().handle(h, request)
    def events(self, *args):
        n = 0
        for event in super().events(*args):
            yield event
            n += event is None
            if event is None and n == how.get("die_at") and (first or not how.get("once")):
                time.sleep(0.05)  # what was sent arrives
                os.kill(os.getpid(), signal.SIGKILL)
    def complete(self, h, request, chat):
        if how.get("die_at") == 0 and (first or not how.get("once")):
            os.kill(os.getpid(), signal.SIGKILL)
        body = request.json
        self.models = [body["model"]]
        super().complete(h, request, chat)
with Server(port=int(flag("--port")), key=os.environ.get("API_KEY") if "--model" in sys.argv else None, **how["server"]) as server:
    if how.get("ready", True):
        print(f"INFO:     Uvicorn running on http://127.0.0.1:{server.port} (Press CTRL+C to quit)", file=sys.stderr, flush=True)
    while True:
        time.sleep(1)
"""


class Packages:
    """without: names of modules that are not there; old: the package has no server; python: what WE_PYTHON names; how: what the
    server does, see SERVER; server: what a stand-in takes."""

    def __init__(self, folder, packages=("llama_cpp", "transformers"), without=(), old=False, slow_s=0, how=None, **server):
        self.folder = os.path.join(folder, "packages")
        self.notes_file, self.how_file = os.path.join(folder, "notes"), os.path.join(folder, "how.json")
        shutil.rmtree(self.folder, ignore_errors=True)
        for package in packages:
            self._package(package, without, old)
        if slow_s:
            self._write("sitecustomize.py", f"import time\ntime.sleep({slow_s})\n")
        open(self.notes_file, "w").close()
        self.set(how or {}, **server)
        self.gguf = os.path.join(folder, "model.gguf")
        with open(self.gguf, "wb") as f:
            f.write(b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(16, "little"))
        self.model = os.path.join(folder, "plain-model")
        os.makedirs(self.model, exist_ok=True)
        with open(os.path.join(self.model, "config.json"), "w") as f:
            json.dump({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, f)
        self.env = {"PYTHONPATH": self.folder, "STAND_IN": self.how_file, "WE_PYTHON": sys.executable, "VIRTUAL_ENV": "",
                    "OLLAMA_HOST": "127.0.0.1:1", "LMSTUDIO_HOST": "127.0.0.1:1"}

    def set(self, how, **server):
        with open(self.how_file, "w") as f:
            json.dump({"notes": self.notes_file, "server": server, **how}, f)

    def _write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def _package(self, package, without, old):
        project, version = PROJECTS[package]
        self._write(f"{project}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        for module in NEEDS[package]:
            if module not in without:
                self._write(f"{module}.py", "raise SystemExit('nothing may import this')\n")
        self._write(f"{package}/__init__.py", "import os\nopen(os.environ['STAND_IN'] + '.imported', 'a').write(__name__ + '\\n')\n")
        server = SERVER % {"here": HERE}
        if old:
            return
        if package == "llama_cpp":
            self._write("llama_cpp/server/__init__.py", "")
            self._write("llama_cpp/server/__main__.py", server)
        else:
            self._write("transformers/cli/__init__.py", "")
            self._write("transformers/cli/serve.py", "")
            self._write("transformers/cli/transformers.py", server)

    def url(self, kind):
        return f"llamacpp://{self.gguf}" if kind == "llamacpp" else f"transformers://{self.model}"

    # ---- What happened ----

    def notes(self, kind):
        with open(self.notes_file) as f:
            return [n for n in map(json.loads, f) if n["kind"] == kind]

    @property
    def starts(self):
        return self.notes("start")

    @property
    def answers(self):
        return [json.loads(n["body"]) for n in self.notes("request") if n["body"]]

    @property
    def imported(self):
        return os.path.exists(self.how_file + ".imported")

    def wait_for(self, kind, n=1):
        """Until it was noted so often."""
        while len(self.notes(kind)) < n:
            time.sleep(0.02)
        return self.notes(kind)

    def living(self):
        """Processes of a server that are still there (a zombie is not)."""
        return [p for p in (n["pid"] for n in self.notes("start") + self.notes("helper")) if is_alive(p)]

    def wait_gone(self, seconds=60):
        """Until none is left, at most so long; gives those that are."""
        end = time.monotonic() + seconds
        while self.living() and time.monotonic() < end:
            time.sleep(0.02)
        return self.living()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False
