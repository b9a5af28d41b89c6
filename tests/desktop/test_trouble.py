#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around the desktop program: each is said in the window, in words that tell what to do, and nothing is lost."""
import json
import os
import resource
import unittest

from desk import Desk, wait_for
import pyatspi
import standins


class Trouble(Desk):
    def folder(self, *more):
        return os.path.join(self.home, ".local/share/whisperengine", *more)

    def let_files_grow(self, to):
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (to, resource.RLIM_INFINITY))

    def test_a_full_disk_loses_nothing(self):
        """Full to this program: no file may grow any more. Until there is room again, or somebody insists on leaving."""
        self.start()
        self.type("Before")
        wait_for("the answer", lambda: self.rows("SELECT 1 FROM message WHERE role = 1 AND state = 0"))
        self.let_files_grow(1)
        self.type("What is quantization?")
        self.sees("Chats are not being saved: ")
        wait_for("an answer all the same", lambda: self.texts().count("tokens/s") >= 2)
        self.assertEqual(len(self.rows("SELECT 1 FROM message")), 2)
        self.activate("quit")
        self.sees("Quit and Lose What Was Not Saved?")
        self.press("Stay")

        self.let_files_grow(resource.RLIM_INFINITY)
        wait_for("all messages", lambda: len(self.rows("SELECT 1 FROM message WHERE state = 0")) == 4)
        wait_for("the end of the banner", lambda: "Chats are not being saved" not in self.texts())
        self.assertIn(("What is quantization?",), self.rows("SELECT text FROM message"))
        self.quit()

    def test_a_folder_that_cannot_be_made(self):
        os.makedirs(os.path.dirname(self.folder()))
        with open(self.folder(), "w", encoding="utf-8"):
            pass
        self.start()
        self.sees("Chats are not being saved: ")
        self.type("Are you there?")
        wait_for("an answer all the same", lambda: "tokens/s" in self.texts())
        os.remove(self.folder())
        wait_for("all messages", lambda: len(self.rows("SELECT 1 FROM message WHERE state = 0")) == 2)
        self.quit()

    def test_leaving_in_spite_of_a_full_disk(self):
        self.start()
        self.let_files_grow(1)
        self.type("Gone")
        self.sees("Chats are not being saved: ")
        self.activate("quit")
        self.sees("Quit and Lose What Was Not Saved?")
        self.press("Quit")
        wait_for("the end", lambda: self.process.poll() is not None)
        self.assertEqual(self.process.returncode, 0, self.log())
        self.assertNotIn("CRITICAL", self.log())

    def test_a_backend_is_lost_in_the_middle(self):
        with standins.OpenAI(pieces=["one ", "two ", "three ", "four "], cut_after=2) as server:
            host, port = server.host, server.port
            self.start(LLM_CHAT_API_URL=f"http://{host}/v1#tiny")
            self.type("Count")
            state, text, note = wait_for("the end", lambda: self.rows("SELECT state, text, note FROM message WHERE role = 1 AND state > 1"))[0]
            self.assertEqual((state, text), (4, "one two "))
            self.assertIn(host, note)
            self.sees(note.split("\n")[0])       # why, beside what came until then
            self.sees("one two")
        with standins.OpenAI(pieces=["three ", "four"], port=port):
            self.press("Continue")               # which this server can't: it answers anew, and what came before is kept
            wait_for("an answer", lambda: self.rows("SELECT 1 FROM message WHERE state = 0 AND text = 'three four' AND NOT hidden"))
            self.assertEqual(self.rows("SELECT text FROM message WHERE hidden"), [("one two ",)])
            self.sees("2/2")
        self.quit()

    def test_a_model_that_is_broken(self):
        model = os.path.join(self.home, "broken")
        os.mkdir(model)
        with open(os.path.join(model, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"model_type": "llama", "hidden_size": "many"}, file)
        self.start(MLX_MODEL_NAME=model)
        self.sees("The model could not be loaded: ")
        self.sees("config.json")                 # which file, and in it what
        self.sees("hidden_size")
        self.press("Choose Another…")
        wait_for("the menu of models", lambda: self.named("Built-in model", pyatspi.ROLE_LABEL))
        self.quit()

    def test_a_model_without_enough_memory(self):
        self.start(MLX_MEMORY_POOL_SIZE="2")
        self.sees("The model could not be loaded: ")
        self.sees("MLX_MEMORY_POOL_SIZE")                    # what there is
        self.type("Anybody?")
        wait_for("the failure", lambda: self.rows("SELECT 1 FROM message WHERE role = 1 AND state = 4"))
        self.quit()


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")     # pyatspi's own
