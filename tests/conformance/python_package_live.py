#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package as its users get it: the wheel that scikit-build-core makes and the other name, installed in a virtual
environment of their own, the package's tests against them, and mypy --strict over both.

Needs PyPI for scikit-build-core, ninja and mypy; without it the script is skipped (77)."""
import glob
import os
import shutil
import subprocess
import sys

SOURCE_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
PLACE = os.path.join(SOURCE_DIR, "build", "conformance", "python-package")
PYTHON = os.path.join(PLACE, "bin", "python")


def run(*command, **kw):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    made = run(sys.executable, "-m", "venv", PLACE)
    if made.returncode == 0:
        made = run(PYTHON, "-m", "pip", "install", "--quiet", "mypy")
    if made.returncode:
        print(made.stdout[-2000:])
        return 77
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "WHISPERENGINE_LIBRARY")}
    env.update(PYTHONDONTWRITEBYTECODE="1", WE_SOURCE_DIR=SOURCE_DIR)
    failed = []

    def check(what, *command, **kw):
        done = run(*command, env=env, **kw)
        print(f"{what}: {'ok' if done.returncode == 0 else 'FAILED'}")
        if done.returncode:
            print(done.stdout[-6000:])
            failed.append(what)
        return done.returncode == 0

    # The alias is copied: setuptools would leave its build folder in the tree.
    alias = os.path.join(PLACE, "seed-alias")
    shutil.copytree(os.path.join(SOURCE_DIR, "python", "seed-alias"), alias)
    if check("pip install ./python", PYTHON, "-m", "pip", "install", "--quiet",
             os.path.join(SOURCE_DIR, "python"), cwd=PLACE) and \
            check("pip install seed-alias", PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", alias,
                  cwd=PLACE):
        for test in sorted(glob.glob(os.path.join(SOURCE_DIR, "python", "tests", "test_*.py"))):
            check(os.path.basename(test), PYTHON, test, cwd=PLACE)
        check("mypy --strict", PYTHON, "-m", "mypy", "--strict", "-p", "whisperengine", "-p", "src.llm", cwd=PLACE)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
