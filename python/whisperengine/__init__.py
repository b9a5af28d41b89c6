# SPDX-License-Identifier: Apache-2.0
"""WhisperEngine: local language models in MLX format. The modules are in whisperengine.llm."""
from . import _native
from .errors import *  # noqa: F401,F403


def library_version() -> str:
    """The version of the shared library in use."""
    return _native.text(_native.lib().we_version())
