# SPDX-License-Identifier: Apache-2.0
"""Processes that run a model, as `top` of another process sees them."""
import os
import signal
import subprocess
import time

from support import DEFAULT_MODEL, PROGRAM, TIMEOUT_S, CTRL_C, EndToEnd, Terminal, main


class Top(EndToEnd):
    def start(self, *args):
        p = subprocess.Popen([PROGRAM, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, cwd=self.dir, env=self.environment())

        def end():
            p.kill()
            p.wait()

        self.addCleanup(end)
        return p

    def busy(self):
        """A generate that runs until it is killed, or nearly so."""
        self.scripted(loop=True, context=1 << 20)
        return self.start("generate", "--model", "scripted", "--context", "1000000", "--prompt", "x", "--ignore-eos",
                          "--max-tokens", "900000")

    def processes(self):
        """What top shows, without programs of this user's that began outside of the test: they lie in /tmp."""
        elsewhere = f"/tmp/whisperengine-{os.geteuid()}"
        others = {int(name.split("-")[0]) for name in os.listdir(elsewhere)} if os.path.isdir(elsewhere) else set()
        return [p for p in self.run_we("top", "--json").json()["processes"] if p["pid"] not in others]

    def wait_for(self, pid, condition):
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            found = [p for p in self.processes() if p["pid"] == pid]
            if found and condition(found[0]):
                return found[0]
            time.sleep(0.05)
        self.fail("top does not show it")

    def pages(self):
        folder = os.path.join(self.runtime, "whisperengine")
        return os.listdir(folder) if os.path.isdir(folder) else []

    def test_nothing_runs(self):
        self.assertEqual(self.processes(), [])
        answer = self.run_we("top", "--json").json()
        self.assertGreater(answer["system_total_bytes"], answer["system_available_bytes"])
        self.assertIn(" process", self.run_we("top").text)

    def test_a_running_answer_is_seen(self):
        p = self.busy()
        first = self.wait_for(p.pid, lambda f: f["running"] == 1 and f["generated_tokens"] > 3)
        self.assertEqual((first["model"], first["models"], first["failed"]), ("scripted", 1, 0))
        self.assertIn("cpu", first["device"])
        for key in ("weights_bytes", "scratch_bytes", "resident_bytes", "generation_tokens_per_second",
                    "time_to_first_token_s", "prompt_tokens", "prompt_tokens_per_second"):
            self.assertGreater(first[key], 0, key)
        self.wait_for(p.pid, lambda f: f["generated_tokens"] > first["generated_tokens"] and f["kv_bytes"] > 0)
        text = self.run_we("top", "--once").text
        self.assertIn(str(p.pid), text)
        self.assertNotIn("\x1b", text)

    def test_the_built_in_model_too(self):
        p = self.start("bench", "--model", DEFAULT_MODEL, "-r", "10000", "-n", "64", "-p", "64")
        self.wait_for(p.pid, lambda f: f["model"] == "default" and f["done"] > 2 and f["generated_tokens"] > 100)

    def test_a_page_goes_with_its_process(self):
        self.run_we("generate", "--model", DEFAULT_MODEL, "--prompt", "x", "--max-tokens", "2")
        self.assertEqual(self.pages(), [])

    def test_a_killed_process_leaves_nothing_for_long(self):
        p = self.busy()
        self.wait_for(p.pid, lambda f: f["running"] == 1)
        p.send_signal(signal.SIGKILL)
        p.wait()
        self.assertEqual(len(self.pages()), 1)
        self.assertEqual(self.processes(), [])
        self.assertEqual(self.pages(), [])

    def test_a_folder_that_is_not_ours_is_left_alone(self):
        folder = os.path.join(self.runtime, "whisperengine")
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        done = self.run_we("generate", "--model", DEFAULT_MODEL, "--prompt", "x", "--max-tokens", "2", "--log",
                           "runtime=debug")
        self.assertIn("0700", done.notes)
        self.assertEqual(self.pages(), [])

    def test_the_live_view(self):
        p = self.busy()
        self.wait_for(p.pid, lambda f: f["running"] == 1)
        t = Terminal(self, "top")
        at = t.expect("q quits")
        t.expect("scripted")
        t.expect("q quits", at)  # it is drawn again
        t.type("q")
        shown = t.end()
        self.assertTrue(shown.endswith("\x1b[?25h\x1b[?1049l"), shown[-100:])  # the terminal is as it was
        t = Terminal(self, "top", env={"NO_COLOR": "1"})
        t.expect("q quits")
        t.type(CTRL_C)
        self.assertNotIn("\x1b[1m", t.end())


if __name__ == "__main__":
    main()
