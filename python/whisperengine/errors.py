# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions. Each carries the library's own sentence: the thing, what was found, what was expected,
the next step. All are WhisperEngineError; where Python has a word for the kind of failure, they are that too."""
from __future__ import annotations

from typing import Dict, Type


class WhisperEngineError(Exception):
    """Anything that failed in WhisperEngine."""


class InvalidArgumentError(WhisperEngineError, ValueError):
    """An argument that makes no sense."""


class OutOfRangeError(WhisperEngineError, ValueError):
    """A number outside its range, or a prompt that is longer than the context."""


class OutOfMemoryError(WhisperEngineError, MemoryError):
    """Weights, KV cache and scratch exceed what is available."""


class FileAccessError(WhisperEngineError, OSError):
    """The operating system refused a file operation."""


class ModelNotFoundError(WhisperEngineError, FileNotFoundError):
    """No such model, file or name."""


class FormatError(WhisperEngineError, ValueError):
    """A file or a server's answer is broken or contradicts itself."""


class UnsupportedError(WhisperEngineError, NotImplementedError):
    """Well-formed, but not something that this build can run."""


class TemplateError(WhisperEngineError, ValueError):
    """The model's chat template is wrong, or refused the conversation."""


class GenerationCancelledError(WhisperEngineError):
    """The answer was cancelled before it was complete."""


class BusyError(WhisperEngineError):
    """Something else uses it at the moment."""


class DeviceError(WhisperEngineError):
    """The device failed, or a model file was cut short while in use."""


class InternalError(WhisperEngineError):
    """A mistake in WhisperEngine: please report it."""


class NetworkError(WhisperEngineError, ConnectionError):
    """Another machine or a server did not answer, or broke off."""


class DeniedError(WhisperEngineError, PermissionError):
    """A server wants a key, or does not accept this one."""


class ModelNotLoadedError(WhisperEngineError):
    """No model is loaded: load_model() comes first."""


class LibraryNotFoundError(WhisperEngineError, ImportError):
    """The shared library cannot be loaded."""


# By the values of we_status in whisperengine.h.
BY_STATUS: Dict[int, Type[WhisperEngineError]] = {
    1: InvalidArgumentError,
    2: OutOfRangeError,
    3: OutOfMemoryError,
    4: FileAccessError,
    5: ModelNotFoundError,
    6: FormatError,
    7: UnsupportedError,
    8: TemplateError,
    9: GenerationCancelledError,
    10: BusyError,
    11: DeviceError,
    12: InternalError,
    13: NetworkError,
    14: DeniedError,
}
