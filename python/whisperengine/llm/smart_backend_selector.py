# SPDX-License-Identifier: Apache-2.0
"""Who can answer on this machine, in the order in which they are tried: MLX, LM Studio, Ollama, llama-cpp-python, Transformers.

    selector = get_smart_backend_selector()
    for backend in selector.get_fallback_chain():
        print(f"{backend.priority}. {backend.name} - {backend.description}")
"""
from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from .. import _config, _logging, _native

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

    def auto_configure_environment(self, *, env_file: Optional[str] = None, dry_run: bool = False) -> bool:
        """Set what is not set yet, in this process's environment, so that the optimal backend is used. env_file: also add it to that
        file (".env"). dry_run: only print it. False: no backend is available, and nothing has changed."""
        best = self.get_optimal_backend()
        if best is None:
            return False
        wanted = {name: value for name, value in self._settings(best).items() if not _config.get(name)}
        if dry_run:
            print("".join(f"{name}={value}\n" for name, value in wanted.items()), end="")
            return True
        if env_file and wanted:
            self._add_to_file(env_file, wanted)
        os.environ.update(wanted)
        return True

    @staticmethod
    def _settings(best: BackendInfo) -> Dict[str, str]:
        model = _config.get("MLX_MODEL_NAME") if best.id == "mlx" else None
        if model is None:  # one that is in memory, else the first that is no built-in one, else any
            names = [m.name for m in sorted(best.models, key=lambda m: (not m.loaded, m.name == "default"))]
            model = names[0] if names else "default"
        settings = {"LLM_CHAT_API_URL": f"{best.id}://{model}"}
        if best.id == "mlx":
            settings["MLX_MODEL_NAME"] = model
        return settings

    @staticmethod
    def _add_to_file(path: str, wanted: Dict[str, str]) -> None:
        """The file is whole, old or new, and for its owner's eyes only."""
        path = os.path.realpath(path)
        try:
            with open(path, encoding="utf-8") as f:
                text = f.read()
        except FileNotFoundError:
            text = ""
        known = {line.split("=", 1)[0].replace("export ", "", 1).strip() for line in text.splitlines() if "=" in line}
        text += "\n" if text and not text.endswith("\n") else ""
        text += "".join(f"{name}={value}\n" for name, value in wanted.items() if name not in known)
        fresh = f"{path}.{os.getpid()}.tmp"
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as f:
                f.write(text)
            os.replace(fresh, path)
        except BaseException:
            if os.path.exists(fresh):
                os.remove(fresh)
            raise

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
