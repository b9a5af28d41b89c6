# SPDX-License-Identifier: Apache-2.0
"""`rm` and `verify`: what goes, what stays, what is refused, and what is noticed of damaged files."""
import fcntl
import os
import shutil
import unittest

from hub import sha256
from support import ScriptedModel, Terminal, main
from test_pull import REPO, HubTest


class Removing(HubTest):
    def link(self, name, target):
        os.symlink(target, os.path.join(self.models, "mlx", name))

    def test_a_folder(self):
        folder = self.scripted("mine")
        bytes_there = sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
        self.fails("rm", "mine", says=[folder, "4 files", "1.85 MB", "--yes"])
        self.assertTrue(os.path.exists(os.path.join(folder, "model.safetensors")))
        done = self.run_we("rm", "mine", "--yes", "--json").json()
        self.assertEqual(done, {"name": "mine", "path": folder, "bytes": bytes_there, "files": 4})
        self.assertFalse(os.path.exists(folder))
        self.assertTrue(os.path.isdir(os.path.dirname(folder)))
        self.fails("rm", "mine", "--yes", says="does not exist")

    def test_a_link(self):
        kept = ScriptedModel().save(os.path.join(self.dir, "elsewhere"))
        self.link("linked", kept)
        done = self.run_we("rm", "linked", "--yes")
        self.assertIn(f"a link to {kept}, which stays", done.notes)
        self.assertFalse(os.path.lexists(os.path.join(self.models, "mlx", "linked")))
        self.assertEqual(len(os.listdir(kept)), 4)
        self.link("dangling", "/nowhere/at/all")
        self.run_we("rm", "dangling", "--yes")
        self.assertEqual(os.listdir(os.path.join(self.models, "mlx")), [])

    def test_links_inside_a_folder(self):
        folder, kept = self.scripted("mine"), os.path.join(self.dir, "kept")
        os.makedirs(os.path.join(kept, "deep"))
        self.write("kept/file", "mine")
        os.symlink(kept, os.path.join(folder, "sub"))
        os.symlink(os.path.join(kept, "file"), os.path.join(folder, "more.json"))
        self.run_we("rm", "mine", "--yes")
        self.assertFalse(os.path.exists(folder))
        self.assertTrue(os.path.isfile(os.path.join(kept, "file")) and os.path.isdir(os.path.join(kept, "deep")))

    def test_what_is_refused(self):
        folder = self.scripted("mine")
        os.makedirs(os.path.join(self.models, "mlx", "plain", "inside"))
        everything = sorted(os.walk(self.dir))
        for name in ("", ".", "..", "/", "default", "mlx://default", "mlx://", "../mlx/mine", "./mine", folder, "mine/..", "mine/",
                     "mine//x", "a\\b", "/etc", "~", "plain", "mlx://../x"):
            self.fails("rm", "--yes", "--", name, says="nothing was removed" if name != "~" else "does not exist")
        self.usage("rm", "--yes", says="name is missing")
        self.usage("rm", "a", "b", says="")
        self.assertEqual(sorted(os.walk(self.dir)), everything)

    def test_a_revision_of_the_hub(self):
        old_files = self.small(**{"config.json": b'{"a": 1}'})
        old = self.add(old_files, ref="old")
        self.pull(f"{REPO}@old")
        new_files = self.small()
        new = self.add(new_files)
        self.pull()
        done = self.run_we("rm", f"{REPO}@old", "--yes", "--json").json()
        self.assertEqual(done["bytes"], len(b'{"a": 1}'))  # all else is the new revision's, too
        self.assertEqual(os.listdir(os.path.join(self.root(), "snapshots")), [new])
        self.assertEqual(os.listdir(os.path.join(self.root(), "refs")), ["main"])
        self.assertEqual(os.listdir(os.path.join(self.root(), "trees")), [new + ".json"])
        self.assertEqual(len(self.blobs()), 3)
        self.check(os.path.join(self.root(), "snapshots", new), new_files)
        self.fails("rm", f"{REPO}@old", "--yes", says="does not exist")
        self.assertFalse(os.path.exists(os.path.join(self.root(), "snapshots", old)))
        done = self.run_we("rm", REPO, "--yes", "--json").json()
        self.assertEqual(done["bytes"], sum(map(len, new_files.values())))
        self.assertFalse(os.path.exists(self.root()))
        self.pull()  # and it can come back

    def test_folders_that_are_not_ours(self):
        commit = self.add()
        self.pull()
        self.run_we("info", REPO, status=None)
        place = f"models--org--tiny/snapshots/{commit}"
        self.fails("rm", place, "--yes", cwd=self.cache, says="nor in the hub's cache")
        self.assertTrue(os.path.isdir(os.path.join(self.cache, place)))

    def test_while_a_download_runs(self):
        self.add()
        path = self.pull().text.strip()
        lock = os.path.join(self.cache, ".locks", "models--org--tiny", sha256(self.small()["model.safetensors"]) + ".lock")
        with open(lock, "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.fails("rm", REPO, "--yes", says="another program works on it")
        self.assertFalse(os.path.exists(path))
        self.assertTrue(os.path.exists(os.path.join(self.root(), "blobs", sha256(self.small()["model.safetensors"]))))
        self.pull()
        self.run_we("rm", REPO, "--yes")
        self.assertFalse(os.path.exists(self.root()))

    def test_asking(self):
        folder = self.scripted("mine")
        for answer, gone in (("n\r", False), ("\r", False), ("yes\r", True)):
            t = Terminal(self, "rm", "mine")
            t.expect("Remove it? [y/N]")
            t.type(answer)
            t.end(0 if gone else 1)
            self.assertEqual(os.path.exists(folder), not gone)

    @unittest.skipIf(os.getuid() == 0, "root may remove everything")
    def test_no_permission(self):
        folder = self.scripted("mine")
        os.chmod(folder, 0o555)
        self.addCleanup(os.chmod, folder, 0o755)
        self.fails("rm", "mine", "--yes", says=["cannot be removed", "Permission denied"])


class Verifying(HubTest):
    def setUp(self):
        super().setUp()
        self.files = self.scripted_files()
        self.hub.add(REPO, self.files, lfs=["model.safetensors"])
        self.path = self.pull().text.strip()

    def blob(self, name):
        return os.path.realpath(os.path.join(self.path, name))

    def change(self, name, at=-1):
        with open(self.blob(name), "r+b") as f:
            content = bytearray(f.read())
            content[at] ^= 1
            f.seek(0)
            f.write(content)

    def test_a_sound_model(self):
        done = self.run_we("verify", REPO)
        self.assertIn("ok: 4 files", done.text)
        self.assertEqual(self.run_we("verify", REPO, "--json").json(),
                         {"name": REPO, "bad": [], "path": self.path, "checked": 4, "without_hash": 0,
                          "bytes": sum(map(len, self.files.values())), "ok": True})

    def test_damaged_files(self):
        self.change("model.safetensors")
        done = self.fails("verify", REPO, says=["model.safetensors: its hash is"])
        self.change("tokenizer.json", 100)
        answer = self.run_we("verify", REPO, "--json", status=1).json()
        self.assertEqual([b["file"] for b in answer["bad"]], ["model.safetensors", "tokenizer.json"])
        self.assertEqual((answer["ok"], answer["checked"]), (False, 2))
        os.truncate(self.blob("config.json"), 3)
        self.fails("verify", REPO, says="config.json: its hash is")
        self.assertNotIn("ok", done.text)

    def test_missing_files(self):
        os.remove(self.blob("model.safetensors"))
        self.fails("verify", REPO, says=["model.safetensors: its content is not here"])
        self.fails("run", "-m", REPO, "hi", says="safetensors")
        os.remove(os.path.join(self.path, "model.safetensors"))
        self.fails("verify", REPO, says=["model.safetensors: is missing", "pull"])
        self.pull()
        self.run_we("verify", REPO)

    def test_mended_by_another_pull(self):
        self.change("model.safetensors")
        self.run_we("rm", REPO, "--yes")
        self.pull()
        self.run_we("verify", REPO)

    def test_a_cache_without_links(self):
        for name in os.listdir(self.path):
            shutil.move(self.blob(name), os.path.join(self.path, name))
        self.assertIn("ok: 4 files", self.run_we("verify", REPO).text)
        self.change("model.safetensors")
        self.fails("verify", REPO, says="model.safetensors: its hash")

    def test_kept_lists_that_are_broken(self):
        tree = os.path.join(self.root(), "trees", os.path.basename(self.path) + ".json")
        for content in ("", "{", "[]", '{"format_version": 2, "files": {}}', '{"format_version": 1, "files": {"../x": {}}}'):
            with open(tree, "w") as f:
                f.write(content)
            self.assertIn("ok: 4 files", self.run_we("verify", REPO).text)  # the links tell the hashes
            self.pull()

    def test_other_folders(self):
        folder = self.scripted("mine")
        self.assertIn("no hashes are known", self.run_we("verify", "mine").text)
        os.truncate(os.path.join(folder, "model.safetensors"), 5000)
        self.fails("verify", "mine", says="model.safetensors")
        self.fails("verify", "nothing", says="does not exist")
        self.usage("verify", says="name is missing")


if __name__ == "__main__":
    main()
