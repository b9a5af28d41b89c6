# SPDX-License-Identifier: Apache-2.0
"""Who can answer on this machine, in the order in which they are tried: MLX, LM Studio, Ollama, llama-cpp-python, Transformers.

    selector = get_smart_backend_selector()
    for backend in selector.get_fallback_chain():
        print(f"{backend.priority}. {backend.name} - {backend.description}")
"""
from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import List, Optional

from .. import _logging, _native

__all__ = ["BackendInfo", "BackendModel", "SmartBackendSelector", "get_smart_backend_selector"]


@dataclass(frozen=True)
class BackendModel:
    """A model that a backend has."""
    name: str
    bytes: int  # 0: unknown
    context: int  # most tokens; 0: unknown
    loaded: bool  # in memory now


@dataclass(frozen=True)
class BackendInfo:
    """A backend as it was found."""
    name: str  # "LM Studio"
    priority: int  # 1 is tried first
    description: str
    available: bool
    reason: str  # why it is available or passed over
    id: str = ""  # "lmstudio": the scheme of its URLs
    version: str = ""
    url: str = ""  # where it was looked for; "" for those that are no server
    latency_ms: float = 0.0
    models: List[BackendModel] = field(default_factory=list)


class SmartBackendSelector:
    """Looks anew at each call: all backends at once, at most 300 ms in all."""

    def get_fallback_chain(self) -> List[BackendInfo]:
        """Every backend in the order of priority, the ones that are not available too."""
        _logging.follow()
        lib, err, found = _native.lib(), _native.Error(), ctypes.c_void_p()
        _native.check(lib.we_backends_detect(ctypes.byref(found), None, err), err)
        try:
            return [self._info(found, i) for i in range(lib.we_backends_count(found))]
        finally:
            lib.we_backends_close(found)

    @staticmethod
    def _info(found: ctypes.c_void_p, index: int) -> BackendInfo:
        info, err, text = _native.BackendInfo(), _native.Error(), _native.text
        _native.check(_native.lib().we_backends_get(found, index, info, err), err)
        models = [BackendModel(text(m.name), m.bytes, m.context, m.loaded) for m in info.models[:info.n_models]]
        return BackendInfo(text(info.name), info.priority, text(info.description), info.available, text(info.reason),
                           text(info.id), text(info.version), text(info.url), info.latency_ms, models)

    def get_optimal_backend(self) -> Optional[BackendInfo]:
        """The first one that is available."""
        return next((backend for backend in self.get_fallback_chain() if backend.available), None)


_selector: Optional[SmartBackendSelector] = None


def get_smart_backend_selector() -> SmartBackendSelector:
    """The process's selector."""
    global _selector
    if _selector is None:
        _selector = SmartBackendSelector()
    return _selector
