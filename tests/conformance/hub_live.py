#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One cache, two programs: what huggingface_hub fetched is found by `pull` and not fetched again, and the other way round; each
waits for the other's locks; huggingface_hub's own inspection of the cache finds nothing wrong after pull and rm.

    hub_live.py [--command CMD]

The reference is PyPI's huggingface_hub (2.4.0); the hub is the stand-in of tests/e2e. CMD (default: $WHISPERENGINE) is the
command. Without huggingface_hub the run is skipped (status 77)."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from hub import Hub, Slow, sha256  # noqa: E402

try:
    import huggingface_hub
except ImportError:
    print("skipped: PyPI's huggingface_hub is not installed")
    sys.exit(77)

REPO = "org/tiny"
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
FILES = {"config.json": b'{"model_type": "other"}', "tokenizer.json": b"{}", "README.md": b"read me", ".gitattributes": b"x",
         "model.safetensors": random.Random(1).randbytes(3 << 20), "additional_chat_templates/a.jinja": b"{{ 1 }}"}
NEEDED = {name: content for name, content in FILES.items() if not name.endswith((".md", "attributes"))}
command = [os.environ.get("WHISPERENGINE", "whisperengine")]

THEIRS = """
import json, sys, huggingface_hub as h
call, arguments = json.loads(sys.argv[1])
print(getattr(h, call)(**arguments))
"""


class Live(unittest.TestCase):
    def setUp(self):
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name
        self.cache = os.path.join(self.home, "hf", "hub")
        self.root = os.path.join(self.cache, "models--org--tiny")
        self.commit = self.hub.add(REPO, FILES, lfs=["model.safetensors"])
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        self.env.update(HOME=self.home, HF_HOME=os.path.join(self.home, "hf"), HF_ENDPOINT=self.hub.url,
                        HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

    def begin(self, args):
        return subprocess.Popen(args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, p):
        out, err = p.communicate(timeout=120)
        self.assertEqual(p.returncode, 0, err)
        return out.strip()

    def begin_theirs(self, call="snapshot_download", **arguments):
        return self.begin([sys.executable, "-c", THEIRS, json.dumps([call, {"repo_id": REPO, **arguments}])])

    def theirs(self, **arguments):
        return self.end(self.begin_theirs(allow_patterns=PATTERNS, **arguments))

    def ours(self, *args):
        return self.end(self.begin([*command, *(args or ["pull", REPO])]))

    def fetched(self):
        """The paths of the files whose content was asked for."""
        return sorted({p.split("/", 5)[-1] if "/resolve/" in p else p.split("/", 4)[-1] for p in self.hub.paths()
                       if not p.startswith("/api/")})

    def check(self, path):
        self.assertEqual(path, os.path.join(self.root, "snapshots", self.commit))
        for name, content in NEEDED.items():
            with open(os.path.join(path, name), "rb") as f:
                self.assertEqual(f.read(), content, name)

    def layout(self):
        """Everything in the cache: links with what they say, files with their content."""
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    found[os.path.relpath(path, self.root)] = "-> " + os.readlink(path)
                else:
                    with open(path, "rb") as f:
                        content = f.read()
                    found[os.path.relpath(path, self.root)] = json.loads(content) if "/trees/" in path else content
        return found

    def inspect(self):
        """huggingface_hub's own look at the cache."""
        info = huggingface_hub.scan_cache_dir(self.cache)
        self.assertEqual(list(info.warnings), [])
        return {repo.repo_id: repo for repo in info.repos}

    def test_theirs_then_ours(self):
        self.check(self.theirs())
        self.hub.clear()
        self.check(self.ours())
        self.assertEqual(self.fetched(), [])
        self.ours("verify", REPO)

    def test_ours_then_theirs(self):
        self.check(self.ours())
        self.hub.clear()
        self.check(self.theirs())
        self.assertEqual(self.fetched(), [])
        self.check(self.theirs(local_files_only=True))

    def test_both_leave_the_same_cache(self):
        self.theirs()
        theirs = self.layout()
        self.ours("rm", REPO, "--yes")
        self.assertFalse(os.path.exists(self.root))
        self.ours()
        self.assertEqual(self.layout(), theirs)

    def test_each_goes_on_where_the_other_stopped(self):
        self.end(self.begin_theirs("hf_hub_download", filename="model.safetensors"))
        self.hub.clear()
        self.check(self.ours())
        self.assertNotIn("model.safetensors", self.fetched())
        self.hub.clear()
        self.end(self.begin_theirs("hf_hub_download", filename="README.md"))
        self.assertEqual(self.fetched(), ["README.md"])

    def test_revisions(self):
        old = self.hub.add(REPO, {**FILES, "config.json": b"[]"}, lfs=["model.safetensors"], ref="v1")
        self.ours("pull", f"{REPO}@v1")
        self.ours()
        repo = self.inspect()[REPO]
        self.assertEqual({r.commit_hash: set(r.refs) for r in repo.revisions}, {old: {"v1"}, self.commit: {"main"}})
        self.assertEqual(repo.size_on_disk, sum(map(len, NEEDED.values())) + len(b"[]"))
        self.ours("rm", f"{REPO}@v1", "--yes")
        self.assertEqual([r.commit_hash for r in self.inspect()[REPO].revisions], [self.commit])
        self.check(self.theirs(local_files_only=True))

    def wait_for_partial(self):
        """Until the content of the weights is on its way."""
        for _ in range(3000):
            if any(a.server == "storage" for a in self.hub.asked):
                return
            time.sleep(0.01)
        self.fail("nobody fetches the weights")

    def test_ours_waits_for_theirs(self):
        self.hub.storage_fault = lambda asked: Slow(128 << 10, 0.05)
        first = self.begin_theirs(allow_patterns=PATTERNS)
        self.wait_for_partial()
        self.check(self.ours())
        self.check(self.end(first))
        self.assertEqual(len(self.hub.paths("storage")), 1)

    def test_theirs_waits_for_ours(self):
        self.hub.storage_fault = lambda asked: Slow(128 << 10, 0.05)
        first = self.begin([*command, "pull", REPO])
        self.wait_for_partial()
        self.check(self.theirs())
        self.check(self.end(first))
        self.assertEqual(len(self.hub.paths("storage")), 1)

    def test_their_lock_holds_ours(self):
        from huggingface_hub.utils import WeakFileLock
        lock = os.path.join(self.cache, ".locks", "models--org--tiny", sha256(FILES["model.safetensors"]) + ".lock")
        os.makedirs(os.path.dirname(lock))
        with WeakFileLock(lock):
            p = self.begin([*command, "pull", REPO])
            self.assertIn("waiting for another program", p.stderr.readline())
            self.assertFalse(os.path.exists(os.path.join(self.root, "snapshots")))
        self.check(self.end(p))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", nargs="+", default=command)
    command = parser.parse_args().command
    unittest.main(argv=sys.argv[:1])
