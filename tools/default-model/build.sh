#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes models/default from nothing: an environment of its own, then training, quantization and evaluation (train.py).
# Options go to train.py, for example `build.sh --out /tmp/try --steps 500`. Needs a GPU to be done within minutes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-$here/../../build/default-model-venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
exec "$venv/bin/python" "$here/train.py" --out "$here/../../models/default" "$@"
