# SPDX-License-Identifier: Apache-2.0
"""examples/chat.c, as the build made it: a small program on the public header alone."""
import os
import subprocess

from support import BUILD_DIR, SOURCE_DIR, TIMEOUT_S, EndToEnd, main

EXAMPLE = os.path.join(BUILD_DIR, "examples", "chat")


class Example(EndToEnd):
    def run_example(self, *args, stdin):
        self.assertTrue(os.path.exists(EXAMPLE), f"{EXAMPLE} is built with the rest")
        return subprocess.run([EXAMPLE, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir,
                              env=self.environment(), timeout=TIMEOUT_S)

    def test_it_chats(self):
        p = self.run_example(self.scripted(), stdin=b"hi\nhow are you\n")
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, b"Hello, world!\n" * 2, b""))

    def test_with_the_built_in_model(self):
        p = self.run_example(stdin=b"Hello\n")
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertTrue(p.stdout.strip())

    def test_it_tells_what_went_wrong(self):
        p = self.run_example("no-such-model", stdin=b"hi\n")
        self.assertEqual((p.returncode, p.stdout), (1, b""))
        self.assertIn(b"Model path does not exist: ", p.stderr)

    def test_it_is_small_and_stands_on_the_public_header_alone(self):
        with open(os.path.join(SOURCE_DIR, "examples", "chat.c")) as f:
            lines = f.read().splitlines()
        self.assertEqual([x for x in lines if x.startswith("#include") and "<std" not in x and "<string.h>" not in x],
                         ["#include <whisperengine.h>"])
        self.assertLess(len(lines), 75)


if __name__ == "__main__":
    main()
