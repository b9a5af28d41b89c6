#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The desktop program from its first question to its end, with a host for its tray item, and killed in the middle of an answer."""
import os
import signal
import sqlite3
import subprocess
import unittest

from desk import Desk, Host, wait_for
import pyatspi
import standins


class App(Desk):
    def test_a_person_chats_and_watches_the_tray(self):
        host = Host(self.bus)
        self.addCleanup(host.close)
        self.start()
        wait_for("the tray's item", lambda: host.items)
        wait_for("the loaded model", lambda: "MLX is active with Built-in model" == host.tooltip())
        green = host.item("IconPixmap")
        self.assertEqual([(p[0], p[1], len(p[2])) for p in green], [(22, 22, 22 * 22 * 4), (44, 44, 44 * 44 * 4)])

        self.type("What is quantization?")
        answer = wait_for("the answer", lambda: self.rows("SELECT text, note FROM message WHERE role = 1 AND state = 0"))[0]
        self.assertTrue(answer[0])
        self.assertIn("Built-in model", answer[1])
        self.sees(answer[1])                    # the figures below the answer
        self.assertEqual(self.rows("SELECT title FROM conversation"), [("What is quantization?",)])
        self.assertIn("tokens/s", " ".join(host.menu()))

        host.click("_Unload Model")
        wait_for("the yellow light", lambda: host.tooltip() == "MLX is available; no model is loaded")
        self.assertNotEqual(host.item("IconPixmap"), green)
        host.click("_Load Model")
        wait_for("the green light", lambda: host.tooltip().startswith("MLX is active"))
        host.click("_Pause")
        wait_for("the pause", lambda: host.item("IconPixmap") != green)
        host.click("_Pause")

        self.activate("preferences")            # a switch acts at once, and is kept
        wait_for("the settings", lambda: self.switch("Send With Ctrl+Enter")).queryAction().doAction(0)
        ini = os.path.join(self.home, ".config/whisperengine/desktop.ini")
        wait_for("the setting", lambda: os.path.exists(ini) and b"send-with-ctrl=1" in self.bytes_of(ini))
        host.click("_Quit")
        wait_for("the end", lambda: self.process.poll() is not None)
        self.assertEqual(self.process.returncode, 0, self.log())

    def test_an_answer_outlives_a_kill(self):
        with standins.OpenAI(pieces=["word "] * 3000, pause_s=0.2) as server:
            self.start(LLM_CHAT_API_URL=f"http://{server.host}/v1#tiny")
            self.type("Go on and on")
            wait_for("the beginning", lambda: self.rows("SELECT 1 FROM message WHERE state = 1 AND text LIKE 'word word%'"))
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        kept = self.rows("SELECT text FROM message WHERE role = 1")[0][0]
        self.assertTrue(kept.startswith("word word"))

        self.start()
        self.sees("Go on and on")                # in the sidebar
        self.activate("next", window=True)
        self.sees("WhisperEngine was closed before this answer was complete.")
        self.sees(kept.strip())
        self.quit()

    def test_many_chats_are_listed(self):
        self.start()                             # makes the database
        wait_for("the database", lambda: self.rows("SELECT 1 FROM conversation") == [])
        self.quit()
        path = os.path.join(self.home, ".local/share/whisperengine/conversations.sqlite")
        with sqlite3.connect(path) as db:
            db.executemany("INSERT INTO conversation(id, updated, title, system, model, draft) VALUES(?, ?, ?, '', '', '')",
                           [(i, i, f"Chat number {i}") for i in range(1, 96)])
        db.close()
        self.start()
        listed = lambda: [n.name for n in self.nodes() if n.getRole() == pyatspi.ROLE_LIST_ITEM and n.name.startswith("Chat number")]
        wait_for("all chats", lambda: len(listed()) == 95)
        self.assertEqual(listed(), [f"Chat number {i}" for i in range(95, 0, -1)])     # the latest first
        self.quit()

    def test_an_answer_has_versions(self):
        answers = iter(["The first answer.", "The second answer.", "The third answer.", "The fourth answer."])
        with standins.OpenAI(answer=lambda messages: [next(answers)]) as server:
            self.start(LLM_CHAT_API_URL=f"http://{server.host}/v1#tiny")
            self.type("How many?")
            self.sees("The first answer.")
            for n, text in ((2, "The second answer."), (3, "The third answer.")):
                self.press("Answer Again")
                self.sees(text)
                self.sees(f"{n}/{n}")
            self.press("Earlier Version")
            self.sees("2/3")
            self.sees("The second answer.")
            self.type("And now?")                # goes on from what is shown
            wait_for("the question", lambda: len(server.answers()) == 4)
            said = [m["content"] for m in server.answers()[-1].json["messages"]]
            self.assertEqual(said[-3:], ["How many?", "The second answer.", "And now?"])
            wait_for("the end", lambda: not self.rows("SELECT 1 FROM message WHERE state = 1"))
        self.quit()
        self.assertEqual(self.rows("SELECT text, hidden FROM message WHERE role = 1 ORDER BY id")[:3],
                         [("The first answer.", 1), ("The second answer.", 0), ("The third answer.", 1)])
        self.start()
        self.activate("next", window=True)
        self.sees("2/3")
        self.press("Later Version")
        self.sees("The third answer.")
        self.quit()

    def test_a_broken_database_is_kept_aside_and_told(self):
        folder = os.path.join(self.home, ".local/share/whisperengine")
        os.makedirs(folder)
        with open(os.path.join(folder, "conversations.sqlite"), "wb") as file:
            file.write(b"not a database" * 1000)
        self.start(leaks=True)
        self.sees("was damaged")
        self.assertTrue(any(".broken-" in name for name in os.listdir(folder)), os.listdir(folder))
        self.quit()

    def test_a_model_that_is_not_there_is_told(self):
        self.start(MLX_MODEL_NAME="no-such-model")
        self.sees("Not available")
        self.sees("MLX is not available: the model did not load")     # no tray here: the header's light
        self.quit()

    def test_without_a_display_it_says_so(self):
        program = os.path.join(os.environ["WE_BUILD_DIR"], "whisperengine-desktop")
        env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        done = subprocess.run([program], env=env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("whisperengine chat", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")     # pyatspi's own
