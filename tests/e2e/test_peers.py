# SPDX-License-Identifier: Apache-2.0
"""bench/peers: our program measured beside a stand-in for llama-bench, whose speed is known."""
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import support

PEERS = os.path.join(support.SOURCE_DIR, "bench", "peers")
LLAMA_BENCH = """#!/bin/sh
if [ -n "$HANGS" ]; then
    timeout 1000 sleep 1000 & # has a process group of its own
    echo $! > "$HANGS"
    wait
fi
echo '[{"samples_ts": [4.0, 2.0, 3.0]}]'
"""


def lives(pid):
    """Whether it runs; what nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Peers(support.EndToEnd):
    def setUp(self):
        super().setUp()
        self.results, self.page = os.path.join(self.dir, "runs.jsonl"), os.path.join(self.dir, "page.md")
        self.llama = os.path.join(self.dir, "llama")
        program = os.path.join(self.llama, "bin", "llama-bench")
        os.makedirs(os.path.dirname(program))
        with open(program, "w") as f:
            f.write(LLAMA_BENCH)
        os.chmod(program, stat.S_IRWXU)

    def command(self, *args, tests="prompt-8,generation-0", rounds=1):
        return [sys.executable, PEERS, "--program", support.PROGRAM, "--dir", os.path.join(self.dir, "work"), "--llama", self.llama,
                "--shapes", "tiny", "--tests", tests, "--generate", "2", "--repetitions", "1", "--threads", "1", "--rounds", str(rounds),
                "--results", self.results, *args]

    def peers(self, *args, status=0, **kinds):
        done = subprocess.run(self.command(*args, **kinds), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=support.TIMEOUT_S)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def rows(self):
        with open(self.results) as f:
            return [json.loads(line) for line in f]

    def test_a_table_a_picture_and_rounds_that_are_added(self):
        with open(self.page, "w") as f:
            f.write("before\n<!-- bench/peers --page writes from here -->\nold\n<!-- bench/peers --page writes up to here -->\nafter\n")
        picture = os.path.join(self.dir, "picture.svg")
        done = self.peers("--page", self.page, "--picture", picture)
        self.assertEqual(len(self.rows()), 4)
        with open(self.page) as f:
            page = f.read()
        self.assertRegex(page, r"(?s)^before\n<!-- .*\| tiny \| 4 \| prompt of 8 \| 1( \*)? \| .*% of multiply-adds \| 3\.0 \(2\.0 to 4\.0\) \|")
        self.assertRegex(page, r"\| tiny \| 4 \| generation after 0 \| 1( \*)? \| .*% of memory \| .*, goal 1\.0")
        self.assertRegex(page, r"G int8 multiply-adds/s, .* GB/s read from memory\.\nOther processes took ")
        self.assertIn("(picture.svg)\n<!-- bench/peers --page writes up to here -->\nafter\n", page)
        self.assertIn(done.stdout, page)
        with open(picture) as f:
            self.assertIn("llama.cpp: 3.0", f.read())
        ours = [r for r in self.rows() if r["engine"] == "whisperengine"]
        ratio = re.search(r"\| (\d+\.\d\d), goal", page)
        self.assertAlmostEqual(float(ratio[1]), ours[1]["tokens_per_second"][0] / 3.0, delta=0.01)

        self.peers(rounds=2)
        self.assertEqual([r["round"] for r in self.rows()], [0] * 4 + [1] * 4)
        self.peers(rounds=2)
        self.assertEqual(len(self.rows()), 8)
        self.assertRegex(self.peers(rounds=0).stdout, r"\| tiny \| 4 \| prompt of 8 \| [12]( \*)? \|")

    def test_rounds_that_others_disturbed_are_left_out_or_not_judged(self):
        def run(engine, index, speed, others):
            return {"shape": "tiny", "bits": 4, "kind": "prompt", "tokens": 512, "round": index, "began": index, "engine": engine,
                    "machine": "m", "threads": 1, "generated": 2, "version": "1", "program": "p", "tokens_per_second": [speed],
                    "others": others}

        def shown(*runs):
            with open(self.results, "w") as f:
                f.writelines(json.dumps(r) + "\n" for r in runs)
            return self.peers(rounds=0).stdout

        disturbed = [run("whisperengine", 0, 30.0, 0.01), run("llama.cpp", 0, 5.0, 0.4)]
        quiet = [run("whisperengine", 1, 24.0, 0.01), run("llama.cpp", 1, 10.0, 0.02)]
        text = shown(*disturbed)
        self.assertIn("| 1 * | 30.0 |  | 5.0 | 6.00, goal 2.5 |\n", text)
        self.assertIn("Other processes took 20.5 (1.0 to 40.0)% of the processors' time during these runs (*: more than 5% of one: no verdict).\n", text)
        self.assertNotIn("goals", text)
        text = shown(*disturbed, *quiet, run("whisperengine", 2, 99.0, 0))  # the last was cut off
        self.assertIn("| 1 | 24.0 |  | 10.0 | 2.40, goal 2.5 missed |\n", text)
        self.assertIn("during these runs.\n2 rounds of a test were left out, ", text)
        self.assertIn("Of 1 goals 0 are reached (medians); missed: tiny, 4 bit, prompt of 512 (llama.cpp).\n", text)

    def test_an_interrupted_group_is_run_again_and_nothing_is_left_running(self):
        hangs = os.path.join(self.dir, "hangs")
        for ending in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(ending), subprocess.Popen(
                    self.command(tests="prompt-8"), env=self.environment(HANGS=hangs), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as child:
                while not (os.path.exists(hangs) and os.path.getsize(hangs)) and child.poll() is None:
                    time.sleep(0.02)
                child.send_signal(ending)
                _, err = child.communicate(timeout=support.TIMEOUT_S)
                self.assertEqual(child.returncode, 130, err)
                self.assertIn("peers: interrupted", err)
                with open(hangs) as f:
                    pid = int(f.read())
                os.remove(hangs)
                self.assertFalse(lives(pid))
        self.assertEqual([r["engine"] for r in self.rows()], ["whisperengine"] * 2)
        self.peers(tests="prompt-8")
        rows = self.rows()
        self.assertEqual([r["engine"] for r in rows], ["whisperengine"] * 3 + ["llama.cpp"])
        self.assertIn(f"| {rows[2]['tokens_per_second'][0]:.1f} ", self.peers(rounds=0).stdout)

    def test_wrong_inputs_are_told_before_anything_runs(self):
        nowhere = os.path.join(self.dir, "no", "folder")
        for args, told in ((["--shapes", "huge"], "there is no shape 'huge', only tiny, "),
                           (["--tests", "prompt-0"], "a test is prompt-N or generation-N, not 'prompt-0'"),
                           (["--bits", "4,3"], "bits are 4 or 8, not '3'"),
                           (["--rounds", "-1"], "--rounds is -1, expected 0 or more"),
                           (["--rounds", "0"], "there are no results to show"),
                           (["--results", nowhere], nowhere + " cannot be written"),
                           (["--picture", nowhere], nowhere + " cannot be written"),
                           (["--page", nowhere], "No such file"),
                           (["--page", os.path.join(support.SOURCE_DIR, "README.md")], "has not the two lines"),
                           (["--program", nowhere], nowhere + " is no program"),
                           (["--ik", self.dir], "holds neither a checkout (CMakeLists.txt) nor a build (bin/llama-bench)"),
                           (["--prefix", "no-such-command"], "no-such-command was not found"),
                           (["--prefix", "false"], "status 1 and no figures from: false ")):
            with self.subTest(args):
                self.assertIn(told, self.peers(*args, status=1).stderr)
        self.peers(tests="prompt-8")
        self.assertIn("threads 1, now it is 2", self.peers("--threads", "2", status=1).stderr)
        with open(self.results, "a") as f:
            f.write('{"shape": "tiny"\n')
        self.assertIn("runs.jsonl, line 3 is no run of this script", self.peers(status=1).stderr)
        os.makedirs(os.path.join(self.dir, "checkout"))
        with open(os.path.join(self.dir, "checkout", "CMakeLists.txt"), "w"):
            pass
        os.remove(self.results)
        without = self.command("--ik", os.path.join(self.dir, "checkout"))
        done = subprocess.run(without, env=self.environment(PATH="/nowhere"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("peers: cmake was not found: install it, or name a folder that holds bin/llama-bench", done.stderr)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    support.main()
