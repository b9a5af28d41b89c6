# SPDX-License-Identifier: Apache-2.0
"""Another name for whisperengine.llm.smart_backend_selector; its log goes to the logger src.llm.smart_backend_selector."""
from whisperengine import _logging
from whisperengine.llm.smart_backend_selector import *

_logging.alias("smart_backend_selector", __name__)
