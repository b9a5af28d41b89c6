# SPDX-License-Identifier: Apache-2.0
"""Another name for whisperengine.llm.mlx_backend; its log goes to the logger src.llm.mlx_backend."""
from whisperengine import _logging
from whisperengine.llm.mlx_backend import *

_logging.alias("mlx_backend", __name__)
