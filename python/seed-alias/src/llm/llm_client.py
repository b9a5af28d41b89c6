# SPDX-License-Identifier: Apache-2.0
"""Another name for whisperengine.llm.llm_client; its log goes to the logger src.llm.llm_client."""
from whisperengine import _logging
from whisperengine.llm.llm_client import *

_logging.alias("llm_client", __name__)
