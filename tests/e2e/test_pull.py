# SPDX-License-Identifier: Apache-2.0
"""Models from the hub: a stand-in for it (hub.py) answers, breaks off, lies and asks for tokens."""
import fcntl
import functools
import json
import os
import random
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time

from hub import Content, Cut, Hub, Slow, Status, Whole, git_oid, sha256
from support import PROGRAM, TIMEOUT_S, EndToEnd, ScriptedModel, Terminal, CTRL_C, main

REPO = "org/tiny"
MIB = 1 << 20


@functools.lru_cache(16)
def random_bytes(n, seed=1):
    return random.Random(seed).randbytes(n)


class HubTest(EndToEnd):
    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(lambda: self.hub.close())
        self.cache = os.path.join(self.home, ".cache", "huggingface", "hub")

    def environment(self, **changes):
        env = super().environment(HF_ENDPOINT=self.hub.url)
        env.update({k: v for k, v in changes.items() if v is not None})
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            if name not in changes:
                env.pop(name, None)
        return env

    def scripted_files(self, **kw):
        folder = ScriptedModel(**kw).save(os.path.join(self.dir, "source"))
        files = {}
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as f:
                files[name] = f.read()
        return files

    def small(self, **more):
        """A model in name only, of a few bytes."""
        files = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "model.safetensors": random_bytes(3000)}
        files.update(more)
        return files

    def add(self, files=None, repo=REPO, **kw):
        return self.hub.add(repo, self.small() if files is None else files, lfs=["model.safetensors"], **kw)

    def big(self, n=17 * MIB):
        files = self.small()
        files["model.safetensors"] = random_bytes(n, seed=2)
        return self.add(files), files

    def root(self, repo=REPO):
        return os.path.join(self.cache, "models--" + repo.replace("/", "--"))

    def pull(self, *args, **kw):
        return self.run_we("pull", *(args or [REPO]), **kw)

    def refused(self, *args, says, **kw):
        return self.fails("pull", *(args or [REPO]), says=says, **kw)

    def check(self, path, files):
        for name, content in files.items():
            with open(os.path.join(path, name), "rb") as f:
                self.assertTrue(f.read() == content, name)

    def blobs(self, repo=REPO):
        folder = os.path.join(self.root(repo), "blobs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def ref(self, name):
        with open(os.path.join(self.root(), "refs", name)) as f:
            return f.read()

    def check_nothing_leads_to(self, repo=REPO):
        for part in ("snapshots", "refs"):
            self.assertFalse(os.path.exists(os.path.join(self.root(repo), part)), part)


class Pulling(HubTest):
    def test_a_model_comes_and_runs(self):
        files = self.scripted_files()
        extra = {"README.md": b"read", "model.gguf": b"GGUF", "original/params.json": b"{}", "consolidated.safetensors": b"c",
                 "additional_chat_templates/tool.jinja": b"{{ 1 }}", "pytorch_model.bin": b"x", "code.py": b"x"}
        commit = self.add({**files, **extra})
        path = self.pull().text.strip()
        self.assertEqual(path, os.path.join(self.root(), "snapshots", commit))
        self.check(path, {**files, "additional_chat_templates/tool.jinja": b"{{ 1 }}"})
        for name in ("README.md", "model.gguf", "original", "consolidated.safetensors", "pytorch_model.bin", "code.py"):
            self.assertFalse(os.path.exists(os.path.join(path, name)), name)
        self.assertEqual(self.ref("main"), commit)
        weights = files["model.safetensors"]
        self.assertEqual(os.readlink(os.path.join(path, "model.safetensors")), "../../blobs/" + sha256(weights))
        self.assertEqual(os.readlink(os.path.join(path, "additional_chat_templates", "tool.jinja")),
                         "../../../blobs/" + git_oid(b"{{ 1 }}"))
        self.assertFalse([b for b in self.blobs() if b.endswith("incomplete")])
        self.assertEqual(self.run_we("run", "-m", REPO, "hi").text.strip(), "Hello, world!")
        self.assertEqual(self.run_we("run", "-m", "tiny@main", "hi").text.strip(), "Hello, world!")
        self.assertIn(f"{REPO}, revision main, commit {commit[:12]}", self.run_we("info", REPO).text)
        info = self.run_we("info", REPO, "--json").json()
        self.assertEqual([info[k] for k in ("repo", "commit", "revisions")], [REPO, commit, "main"])
        row = next(e for e in self.run_we("list", "--json").json() if e["name"] == REPO)
        self.assertEqual((row["quantization"], row["max_position_embeddings"], row["runnable"]), ("float32", 4096, True))

    def test_what_is_there_is_not_fetched_again(self):
        self.add()
        self.pull()
        self.hub.clear()
        done = self.pull("--json", REPO)
        self.assertEqual(self.hub.paths(), [f"/api/models/{REPO}/revision/main"])
        self.assertEqual(done.json()["fetched_bytes"], 0)

    def test_a_new_revision_shares_what_is_the_same(self):
        first = self.add()
        self.pull()
        self.hub.clear()
        second = self.add(self.small(**{"config.json": b'{"model_type": "qwen3"}'}))
        self.pull()
        self.assertEqual([p for p in self.hub.paths() if "/resolve/" in p], [f"/{REPO}/resolve/{second}/config.json"])
        self.assertEqual(sorted(os.listdir(os.path.join(self.root(), "snapshots"))), sorted([first, second]))

    def test_a_short_name(self):
        repo = "mlx-community/Llama-3.2-1B-Instruct-4bit"
        self.add(self.scripted_files(), repo=repo)
        self.pull("llama-3.2-1b")
        self.assertTrue(self.blobs(repo))
        self.assertEqual(self.run_we("run", "-m", "llama-3.2-1b", "hi").text.strip(), "Hello, world!")
        self.refused("llama-3.2", says=["none of the short names", "llama-3.2-1b", "ORG/NAME"])

    def test_revisions(self):
        old = self.add(self.small(**{"config.json": b"[1]"}), ref="v1/old")
        new = self.add()
        for name, commit in ((f"{REPO}@v1/old", old), (f"{REPO}@{new}", new), (REPO, new)):
            self.assertTrue(self.pull(name).text.strip().endswith(commit))
        self.assertEqual(self.ref("v1/old"), old)
        self.refused(f"{REPO}@nope", says=['no branch, tag or commit "nope"'])
        self.refused(f"{REPO}@../../x", says="is no revision")

    def test_names_that_are_none(self):
        for name in ("a/b/c", "../x", "/etc", "org/..", "-a/b", "a/b--c", "org/", "org/x y", "a\\b/c"):
            self.refused("--", name, says="name")
        self.usage("pull", says="name is missing")
        self.usage("pull", "a/b", "c/d", says="")
        self.refused("", says="empty")
        self.assertEqual(self.hub.asked, [])

    def test_pages_of_the_list(self):
        files = self.small(**{f"a{i}.json": b"%d" % i for i in range(10)})
        self.add(files)
        self.hub.page_size = 3
        self.hub.next_link = "http://elsewhere.invalid"  # a mirror that hands on another's address: only its cursor counts
        self.check(self.pull().text.strip(), files)
        self.hub.list_change = lambda entries: entries[:1] * 7
        self.add(self.small(**{"a.json": b"1"}))
        self.refused(says="twice")

    def test_two_files_of_the_same_content(self):
        files = self.small(**{"a.json": b"same", "b.json": b"same", "empty.txt": b""})
        self.add(files)
        self.check(self.pull().text.strip(), files)

    def test_other_places(self):
        self.add()
        for env, cache in (({"HF_HOME": f"{self.dir}/a"}, "a/hub"), ({"HF_HUB_CACHE": f"{self.dir}/b"}, "b"),
                           ({"HUGGINGFACE_HUB_CACHE": f"{self.dir}/c"}, "c"), ({"XDG_CACHE_HOME": f"{self.dir}/d"}, "d/huggingface/hub"),
                           ({"HF_HOME": "~/e"}, "home/e/hub")):
            path = self.pull(env=env).text.strip()
            self.assertTrue(path.startswith(os.path.join(self.dir, cache, "models--org--tiny")), path)

    def test_offline(self):
        self.add()
        self.refused(says=["not on this machine", "HF_HUB_OFFLINE"], env={"HF_HUB_OFFLINE": "1"})
        path = self.pull().text
        self.hub.clear()
        self.assertEqual(self.pull(env={"HF_HUB_OFFLINE": "1"}).text, path)
        self.assertEqual(self.hub.asked, [])

    def test_no_model(self):
        self.add({"model.Q4_K_M.gguf": b"GGUF", "config.json": b"{}"})
        self.refused(says=["GGUF", "convert --gguf"])
        self.add({"config.json": b"{}", "README.md": b""})
        self.refused(says="no weights")
        self.add({"model.safetensors": b"x"})
        self.refused(says="no config.json")

    def test_weights_of_other_kinds(self):
        npz = {"config.json": b"{}", "weights.npz": b"z"}
        self.add({**npz, "pytorch_model.bin": b"b"})
        path = self.pull().text.strip()
        self.assertEqual(sorted(os.listdir(path)), ["config.json", "weights.npz"])
        bins = {"config.json": b"{}", "pytorch_model-00001-of-00001.bin": b"b", "pytorch_model.bin.index.json": b"{}"}
        self.add({**bins, "training_args.bin": b"t"})
        self.assertEqual(sorted(os.listdir(self.pull().text.strip())), sorted(bins))

    def test_a_proxy(self):
        self.add()
        self.pull(env={"HF_ENDPOINT": "http://hub.invalid", "http_proxy": self.hub.url})
        self.assertEqual(self.hub.paths("hub")[0], f"/api/models/{REPO}/revision/main")
        self.refused("org/other", "--retries", "0", says="proxy",
                     env={"HF_ENDPOINT": "http://hub.invalid", "http_proxy": "http://proxy.invalid:1"})

    def test_certificates_are_checked(self):
        key, cert = os.path.join(self.dir, "key.pem"), os.path.join(self.dir, "cert.pem")
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as e:
            self.skipTest(f"no certificate to test with: {e}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.hub.close()
        self.hub = Hub(tls=context)
        self.add({n: b for n, b in self.small().items()})
        self.refused(says=["certificate", "SSL_CERT_FILE"])
        self.fails("pull", REPO, env={"SSL_CERT_FILE": cert}, says="without encryption")  # its storage speaks plain http
        self.hub.repos[REPO]["commits"] = {c: {p: (b, False) for p, (b, _) in f.items()}
                                           for c, f in self.hub.repos[REPO]["commits"].items()}
        shutil.rmtree(self.cache)
        self.pull(env={"SSL_CERT_FILE": cert})


    def test_convert_fetches_what_it_needs(self):
        self.add(self.scripted_files())
        target = os.path.join(self.dir, "out")
        done = self.run_we("convert", "--hf-path", REPO, "--mlx-path", target)
        self.assertIn("asking the hub", done.notes)
        self.assertEqual(self.run_we("run", "-m", target, "hi").text.strip(), "Hello, world!")
        self.hub.clear()
        self.run_we("convert", "--hf-path", REPO, "--mlx-path", target, "--overwrite")
        self.assertEqual(self.hub.asked, [])
        self.fails("convert", "--hf-path", "org/nope", "--mlx-path", "other", says="no such repository")
        self.fails("convert", "--hf-path", "./org/nope", "--mlx-path", "other", says="does not exist")

    def test_convert_fetches_nothing_for_a_target_or_options_that_it_refuses(self):
        self.add(self.scripted_files())
        self.write("out/config.json", "{}")
        args = ("convert", "--hf-path", REPO, "--mlx-path")
        self.fails(*args, "out", says=["exists", "--overwrite"])
        self.fails(*args, "free", "-q", "--q-bits", "7", status=2, says="7")
        self.fails(*args, "free", "-q", "--calibrate", "no.txt", says="no.txt")
        self.fails(*args, os.path.join("out", "config.json", "model"), says="config.json")
        self.assertEqual(self.hub.asked, [])


class Breaking(HubTest):
    def test_ranges_over_several_connections(self):
        _, files = self.big()
        self.check(self.pull("--connections", "4", REPO).text.strip(), files)
        ranges = {a.headers["Range"] for a in self.hub.asked if a.server == "storage"}
        self.assertEqual(ranges, {"bytes=0-8388607", "bytes=8388608-16777215", "bytes=16777216-17825791"})

    def test_connections_that_break_off(self):
        _, files = self.big()
        self.hub.storage_fault = lambda asked: Cut(3 * MIB) if asked.count < 6 else None
        self.hub.fault = lambda asked: Cut(10) if asked.path.endswith(".json") and asked.count == 0 else None
        done = self.pull("--json", REPO, "--retries", "2")
        self.check(done.json()["path"], files)
        self.assertEqual(done.json()["fetched_bytes"], sum(map(len, files.values())))  # no byte came twice

    def start(self, *args, **kw):
        p = subprocess.Popen([PROGRAM, "pull", *(args or [REPO])], cwd=self.dir, env=self.environment(**kw.pop("env", {})),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
        self.addCleanup(lambda: (p.kill(), p.communicate()))
        return p

    def wait_for(self, what):
        end = time.monotonic() + TIMEOUT_S
        while not what():
            self.assertLess(time.monotonic(), end, "it does not come to pass")
            time.sleep(0.01)

    def partial(self):
        found = [b for b in self.blobs() if b.endswith(".whisperengine.incomplete")]
        return os.stat(os.path.join(self.root(), "blobs", found[0])).st_blocks * 512 if found else 0

    def test_a_killed_pull_goes_on(self):
        _, files = self.big()
        size = len(files["model.safetensors"])
        self.hub.storage_fault = lambda asked: Slow(256 << 10, 0.02)
        p = self.start()
        self.wait_for(lambda: self.partial() > 6 * MIB)
        p.send_signal(signal.SIGKILL)
        p.wait()
        self.check_nothing_leads_to()
        self.hub.storage_fault = lambda asked: None
        done = self.pull("--json", REPO).json()
        self.assertLess(done["fetched_bytes"], size - 2 * MIB)
        self.check(done["path"], files)
        self.assertEqual(self.partial(), 0)

    def test_ctrl_c(self):
        _, files = self.big()
        self.hub.storage_fault = lambda asked: Slow(256 << 10, 0.02)
        p = self.start()
        self.wait_for(lambda: self.partial() > 4 * MIB)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate()
        self.assertEqual((p.returncode, out), (130, b""), err)
        self.assertIn(b"goes on from there", err)
        self.check_nothing_leads_to()
        self.hub.storage_fault = lambda asked: None
        self.check(self.pull().text.strip(), files)

    def test_ctrl_c_while_the_hub_is_silent(self):
        self.add()
        self.hub.api_fault = lambda asked: time.sleep(3)
        p = self.start()
        self.wait_for(lambda: self.hub.asked)
        p.send_signal(signal.SIGINT)
        p.communicate()
        self.assertEqual(p.returncode, 130)

    def test_progress_on_a_terminal(self):
        self.big(10 * MIB)
        self.hub.storage_fault = lambda asked: Slow(512 << 10, 0.05)
        t = Terminal(self, "pull", REPO)
        t.expect("%  ")
        t.expect("/s  ")
        self.hub.storage_fault = lambda asked: None
        t.expect("fetched in")
        t.end()

    def test_what_huggingface_hub_began_is_taken_over(self):
        _, files = self.big()
        content = files["model.safetensors"]
        os.makedirs(os.path.join(self.root(), "blobs"))
        with open(os.path.join(self.root(), "blobs", sha256(content) + ".incomplete"), "wb") as f:
            f.write(content[:9 * MIB])
        done = self.pull("--json", REPO).json()
        self.assertLess(done["fetched_bytes"], 9 * MIB)
        self.check(done["path"], files)

    def test_a_server_without_ranges(self):
        _, files = self.big()
        self.hub.storage_fault = lambda asked: Whole()
        self.check(self.pull().text.strip(), files)

    def test_wrong_content(self):
        _, files = self.big(9 * MIB)
        wrong = random_bytes(9 * MIB, seed=3)
        self.hub.storage_fault = lambda asked: Content(wrong)
        self.refused(says=["model.safetensors", "hash", sha256(wrong), sha256(files["model.safetensors"])])
        self.check_nothing_leads_to()
        self.assertFalse([b for b in self.blobs() if "incomplete" in b])
        self.hub.storage_fault = lambda asked: Content(wrong) if asked.count == 2 else None
        self.check(self.pull().text.strip(), files)  # wrong once: fetched anew

    def test_wrong_content_of_a_small_file(self):
        self.add()
        self.hub.fault = lambda asked: Content(b'{"model_type": "LLAMA"}', "W/weak") if asked.path.endswith("config.json") else None
        self.refused(says=["config.json", "hash"])
        self.hub.fault = lambda asked: Content(b"[]", git_oid(b"[]")) if asked.path.endswith("config.json") else None
        self.refused(says=["config.json", "changes"])
        self.check_nothing_leads_to()

    def test_a_file_that_changes_meanwhile(self):
        _, files = self.big()
        other = random_bytes(17 * MIB, seed=4)
        self.hub.storage_fault = lambda asked: Content(other, "other") if asked.count in (1, 2) else None
        self.check(self.pull().text.strip(), files)
        shutil.rmtree(self.cache)
        self.hub.clear()
        self.hub.storage_fault = lambda asked: Content(other[:16 * MIB + 9], "shorter") if asked.count else None
        self.refused(says=["model.safetensors", "changes"])
        self.check_nothing_leads_to()

    def test_partial_files_that_are_broken(self):
        _, files = self.big()
        name = os.path.join(self.root(), "blobs", sha256(files["model.safetensors"]) + ".whisperengine.incomplete")
        os.makedirs(os.path.dirname(name))
        for content in (b"", b"x" * 100, bytes(17 * MIB) + b"WhisperEngine 1\n" + b"\xff" * 400):
            with open(name, "wb") as f:
                f.write(content)
            self.check(self.pull().text.strip(), files)
            shutil.rmtree(os.path.join(self.root(), "blobs"))
            os.makedirs(os.path.dirname(name))

    def test_two_pulls_at_once(self):
        _, files = self.big()
        self.hub.storage_fault = lambda asked: Slow(512 << 10, 0.01)
        first = self.start()
        second = self.start()
        outputs = [p.communicate() for p in (first, second)]
        self.assertEqual([first.returncode, second.returncode], [0, 0], outputs)
        self.check(outputs[0][0].decode().strip(), files)
        fetched = [p for p in self.hub.paths("storage")]
        self.assertEqual(len(fetched), 3, fetched)  # its three ranges, once each

    def test_a_lock_that_another_holds(self):
        commit = self.add()
        locks = os.path.join(self.cache, ".locks", "models--org--tiny")
        os.makedirs(locks)
        name = sha256(self.small()["model.safetensors"])
        with open(os.path.join(locks, name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            p = self.start()
            said = p.stderr.readline()
            self.assertIn(b"waiting for another program", said)
            self.check_nothing_leads_to()
            with open(os.path.join(self.root(), "blobs", name), "wb") as f:  # the other one has brought it
                f.write(self.small()["model.safetensors"])
        out, err = p.communicate()
        self.assertEqual(p.returncode, 0, err)
        self.assertTrue(out.decode().strip().endswith(commit))
        self.assertEqual(self.hub.paths("storage"), [])


class Refusals(HubTest):
    def test_the_token_goes_to_the_hub_alone(self):
        self.hub.private = "hf_secret"
        self.add()
        self.pull(env={"HF_TOKEN": " hf_secret\n"})
        given = {(a.server, a.headers["Authorization"]) for a in self.hub.asked}
        self.assertEqual(given, {("hub", "Bearer hf_secret"), ("storage", None)})
        shutil.rmtree(self.cache)
        os.makedirs(os.path.dirname(self.cache), exist_ok=True)
        with open(os.path.join(os.path.dirname(self.cache), "token"), "w") as f:
            f.write("hf_secret\n")
        self.pull()
        self.refused("org/x", says="", env={"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})
        self.assertIsNone(self.hub.asked[-1].headers["Authorization"])

    def test_unknown_repositories(self):
        self.refused("org/nope", says=["org/nope", "no such repository", "HF_TOKEN"])
        self.refused("org/nope", says=["not found", "spelling"], env={"HF_TOKEN": "x"})
        self.hub.private = "right"
        self.add()
        self.refused(says=["does not accept the token", "settings/tokens"], env={"HF_TOKEN": "wrong"})

    def test_gated_models(self):
        self.hub.gated = "hf_right"
        self.add()
        self.refused(says=["consent", f"{self.hub.url}/{REPO}", "settings/tokens", "export HF_TOKEN"])
        self.refused(says=["consent", f"{self.hub.url}/{REPO}", "accept the terms"], env={"HF_TOKEN": "hf_other"})
        self.check_nothing_leads_to()
        self.pull(env={"HF_TOKEN": "hf_right"})

    def test_statuses_of_files(self):
        self.add()
        weights = f"/{REPO}/resolve/"
        for status, says in ((Status(404, {"X-Error-Code": "EntryNotFound"}), "does not have it"), (Status(403), "forbids"),
                             (Status(416), "changes"), (Status(500), "500"), (Status(418), "418")):
            self.hub.fault = lambda asked: status if asked.path.startswith(weights) and "model" in asked.path else None
            self.refused("--retries", "1", REPO, says=[says, "org/tiny" if says != "changes" else "model.safetensors"])
            self.check_nothing_leads_to()

    def test_failures_that_pass(self):
        self.add()
        self.hub.api_fault = lambda asked: Status(503) if asked.count == 0 else None
        self.hub.fault = lambda asked: Status(429, {"Retry-After": "1"}) if asked.count == 0 and "model" in asked.path else None
        self.pull()
        self.add(self.small(**{"config.json": b"{}"}))
        self.hub.api_fault = lambda asked: Status(429, {"Retry-After": "86400"})
        self.refused(says=["asks to wait", "HF_TOKEN"])

    def test_no_hub(self):
        url = self.hub.url
        self.refused("--retries", "0", REPO, says="127.0.0.1:1", env={"HF_ENDPOINT": "http://127.0.0.1:1"})
        self.refused(says="not an address", env={"HF_ENDPOINT": "file:///etc"})
        self.hub.api_fault = lambda asked: Content(b"<html>")
        self.refused(says="line 1", env={"HF_ENDPOINT": url + "/"})
        self.hub.api_fault = lambda asked: Content(b'{"sha": "../../x"}')
        self.refused(says="names no commit")

    def test_hostile_names(self):
        for name in ("/etc/passwd.json", "../up.json", "a/../../up.json", "a\\b.json", "nul\0.json", "a//b.json", ".", "./a.json",
                     "x" * 300 + ".json", "bell\x07.json", "a/"):
            self.add(self.small(**{name: b"hostile"}))
            self.refused(says=["no name for a file", "nothing was written"])
            self.assertFalse(os.path.exists(self.root()), name)

    def test_hostile_lists(self):
        self.add()
        for change in ({"oid": "../../../x"}, {"oid": 1}, {"size": -1}, {"size": "big"}, {"size": 1 << 60}, {"path": 3},
                       {"lfs": {"oid": "../x", "size": 1}}, {"lfs": {"oid": "a" * 64}}, {"lfs": {}}, {"xetHash": "../x"}):
            self.hub.list_change = lambda entries: [{**e, **change} for e in entries]
            self.refused(says="list of files")
            self.assertFalse(os.path.exists(self.root()), change)

    def test_links_in_the_way(self):
        files = self.small(**{"additional_chat_templates/a.jinja": b"a"})
        commit = self.add(files)
        outside = os.path.join(self.dir, "outside")
        os.makedirs(outside)
        snapshot = os.path.join(self.root(), "snapshots", commit)
        os.makedirs(snapshot)
        os.symlink(outside, os.path.join(snapshot, "additional_chat_templates"))
        self.refused(says=["additional_chat_templates/a.jinja", "passes through a link"])
        self.assertEqual(os.listdir(outside), [])
        os.remove(os.path.join(snapshot, "additional_chat_templates"))
        victim = self.write("victim", "mine")
        os.symlink(victim, os.path.join(snapshot, "config.json"))
        self.check(self.pull().text.strip(), files)
        with open(victim) as f:
            self.assertEqual(f.read(), "mine")

    def test_no_space(self):
        self.add()
        self.hub.list_change = lambda entries: [{**e, "lfs": {**e["lfs"], "size": 1 << 49}} if "lfs" in e else e for e in entries]
        self.refused(says=["not enough space", "563 TB", "HF_HOME"])
        self.assertFalse([p for p in self.hub.paths() if "/resolve/" in p])
        self.check_nothing_leads_to()

    def test_a_disk_that_fills_up(self):
        _, files = self.big()
        p = subprocess.run([PROGRAM, "pull", REPO], cwd=self.dir, env=self.environment(), capture_output=True, timeout=TIMEOUT_S,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB)))
        self.assertEqual((p.returncode, p.stdout), (1, b""), p.stderr)
        self.assertIn(b"cannot be written: File too large", p.stderr)
        self.check_nothing_leads_to()
        self.check(self.pull().text.strip(), files)

    def test_no_permission(self):
        self.add()
        places = {"a file in its place": (self.write("file", ""), {})}
        if os.getuid() == 0:
            locked = os.path.join(self.dir, "locked")
            os.makedirs(locked)
            os.chmod(self.dir, 0o755)
            os.chmod(self.home, 0o755)
            def drop():
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            places["another's folder"] = (locked, {"preexec_fn": drop})
        else:
            locked = os.path.join(self.dir, "locked")
            os.makedirs(locked, 0o555)
            places["a locked folder"] = (locked, {})
        for why, (place, how) in places.items():
            try:
                p = subprocess.run([PROGRAM, "pull", REPO], cwd="/", env=self.environment(HF_HOME=place), capture_output=True,
                                   timeout=TIMEOUT_S, **how)
            except PermissionError:
                continue  # the program itself is where that user may not go
            self.assertEqual(p.returncode, 1, (why, p.stderr))
            self.assertTrue(b"the folder cannot be made" in p.stderr or b"opened" in p.stderr, (why, p.stderr))


if __name__ == "__main__":
    main()
