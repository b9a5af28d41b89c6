# SPDX-License-Identifier: Apache-2.0
"""Who can answer on this machine, in the order in which they are tried: MLX, LM Studio, Ollama, llama-cpp-python, Transformers.

    selector = get_smart_backend_selector()
    for backend in selector.get_fallback_chain():
        print(f"{backend.priority}. {backend.name} - {backend.description}")
"""
from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional

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

    @staticmethod
    @contextmanager
    def _detect() -> Iterator[ctypes.c_void_p]:
        _logging.follow()
        lib, err, found = _native.lib(), _native.Error(), ctypes.c_void_p()
        _native.check(lib.we_backends_detect(ctypes.byref(found), None, err), err)
        try:
            yield found
        finally:
            lib.we_backends_close(found)

    def get_fallback_chain(self) -> List[BackendInfo]:
        """Every backend in the order of priority, the ones that are not available too."""
        with self._detect() as found:
            return [self._info(found, i) for i in range(_native.lib().we_backends_count(found))]

    @staticmethod
    def _info(found: ctypes.c_void_p, index: int) -> BackendInfo:
        info, err, text = _native.BackendInfo(), _native.Error(), _native.text
        _native.check(_native.lib().we_backends_get(found, index, info, err), err)
        models = [BackendModel(text(m.name), m.bytes, m.context, m.loaded) for m in info.models[:info.n_models]]
        return BackendInfo(text(info.name), info.priority, text(info.description), info.available, text(info.reason),
                           text(info.id), text(info.version), text(info.url), info.latency_ms, models)

    def get_optimal_backend(self) -> Optional[BackendInfo]:
        """The first one that is available."""
        with self._detect() as found:
            best = _native.lib().we_backends_optimal(found)
            return self._info(found, best) if best < _native.lib().we_backends_count(found) else None

    def auto_configure_environment(self, *, dotenv: bool = False, dry_run: bool = False) -> bool:
        """Set what is not set yet, in this process's environment, so that the optimal backend is used with the model that suits this
        machine best. dotenv: write it to ./.env, too. dry_run: only print it. False: no backend is available, and nothing
        has changed."""
        wanted: Dict[str, str] = {}
        text = _native.text
        propose = _native.ProposalFn(lambda _user, name, value, _reason: wanted.update({text(name): text(value)}))
        lib, err = _native.lib(), _native.Error()
        _native.reload_configuration()
        with self._detect() as found:
            if lib.we_backends_optimal(found) >= lib.we_backends_count(found):
                return False
            target = _native.CONFIG_TO_DOTENV if dotenv and not dry_run else _native.CONFIG_TO_NOWHERE
            _native.check(lib.we_config_auto(found, target, propose, None, None, err), err)
        if dry_run:
            print("".join(f"{name}={value}\n" for name, value in wanted.items()), end="")
        else:
            os.environ.update(wanted)
        return True

    def get_setup_recommendations(self) -> List[str]:
        """What to do so that this machine chats well: models that suit its memory, backends that could be installed or started."""
        _logging.follow()
        advice: List[str] = []
        note = _native.NoteFn(lambda _user, text: advice.append(_native.text(text)))
        err = _native.Error()
        _native.check(_native.lib().we_setup_recommendations(note, None, err), err)
        return advice


_selector: Optional[SmartBackendSelector] = None


def get_smart_backend_selector() -> SmartBackendSelector:
    """The process's selector."""
    global _selector
    if _selector is None:
        _selector = SmartBackendSelector()
    return _selector
