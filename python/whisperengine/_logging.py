# SPDX-License-Identifier: Apache-2.0
"""The library's log in Python's logging: its messages arrive at the loggers of this package, and the loggers' levels decide
what the library writes at all.

Python's logging has no hook for a changed level, so follow() is called before each call into the library that may log; it
costs a few comparisons. TRACE is a level below DEBUG."""
from __future__ import annotations

import atexit
import logging
import threading
from typing import Dict, Optional

from . import _native

TRACE = 5
PACKAGE = "whisperengine.llm"
# Modules of the library that have a logger of their own; all others are the engine, mlx_backend.
_LOGGER_OF = {"backend": "smart_backend_selector", "client": "llm_client"}
_MLX = "mlx_backend"
_LEVELS = ((TRACE, "trace"), (logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warn"),
           (logging.ERROR, "error"))
_TO_PYTHON = {_native.LOG_ERROR: logging.ERROR, _native.LOG_WARN: logging.WARNING, _native.LOG_INFO: logging.INFO,
              _native.LOG_DEBUG: logging.DEBUG, _native.LOG_TRACE: TRACE}

logging.addLevelName(TRACE, "TRACE")
_loggers: Dict[str, logging.Logger] = {}
_lock = threading.Lock()
_spec: Optional[str] = None


def logger(name: str) -> logging.Logger:
    """The logger that a module of this package and its part of the library write to."""
    found = _loggers.get(name)
    if found is None:
        found = _loggers[name] = logging.getLogger(f"{PACKAGE}.{name}")
    return found


def alias(name: str, other: str) -> None:
    """From now on, write to the logger `other`. It passes everything on to the one that it stands for, which is its parent,
    so that handlers and levels of either count and nothing is written twice."""
    first = logging.getLogger(f"{PACKAGE}.{name}")
    second = logging.getLogger(other)
    second.parent = first
    second.setLevel(second.level)  # forgets what it knew of its former parents
    _loggers[name] = second


def _receive(_user: Optional[int], level: int, module: bytes, message: bytes) -> None:
    try:
        name = module.decode()
        logger(_LOGGER_OF.get(name, _MLX)).log(_TO_PYTHON.get(level, logging.DEBUG), "%s: %s", name,
                                               message.decode("utf-8", "replace"))
    except Exception:  # a user's handler; there is nobody above to tell but logging itself
        if logging.raiseExceptions:
            raise


_callback = _native.LogFn(_receive)


def _level(of: logging.Logger) -> str:
    return next((name for level, name in _LEVELS if of.isEnabledFor(level)), "off")


def follow() -> None:
    """Give the library the levels that the loggers have now."""
    global _spec
    spec = ",".join([_level(logger(_MLX))] + [f"{module}={_level(logger(name))}" for module, name in _LOGGER_OF.items()])
    if spec == _spec:
        return
    with _lock:
        if _spec is None:
            _native.lib().we_log_set_callback(_callback, None)
            atexit.register(_native.lib().we_log_set_callback, _native.LogFn(), None)
        err = _native.Error()
        _native.check(_native.lib().we_log_set_levels(spec.encode(), err), err)
        _spec = spec
