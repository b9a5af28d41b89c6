# SPDX-License-Identifier: Apache-2.0
"""The shared library: where it is found, and what whisperengine.h declares, as far as this package uses it.

Structs repeat the header's fields in order; tests/test_native.py holds sizes, offsets, constants and parameters to the header.
Calls release the GIL. Structs that begin with `size` work with a library of another version: it reads and writes what the
size covers."""
from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from ctypes import (CFUNCTYPE, POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_uint64,
                    c_void_p)
from typing import Any, Dict, List, Optional, Tuple, Type

from .errors import BY_STATUS, InternalError, LibraryNotFoundError, WhisperEngineError

# ---- Constants ----

LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE, LOG_OFF = range(6)
FINISH_EOS, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED = range(4)
CONFIG_TO_NOWHERE, CONFIG_TO_USER, CONFIG_TO_DOTENV = range(3)

# ---- Callbacks ----

LogFn = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)
PieceFn = CFUNCTYPE(c_bool, c_void_p, POINTER(c_char), c_size_t, c_int32)
PrefillFn = CFUNCTYPE(c_bool, c_void_p, c_size_t, c_size_t)
ProgressFn = CFUNCTYPE(c_bool, c_void_p, c_uint64, c_uint64)
NoteFn = CFUNCTYPE(None, c_void_p, c_char_p)
ConfirmFn = CFUNCTYPE(c_bool, c_void_p, c_char_p)
ProposalFn = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p, c_char_p)

# ---- Structs ----


class Error(ctypes.Structure):
    _fields_ = [("status", c_int), ("message", c_char * 1024)]


class _Sized(ctypes.Structure):
    """A struct that begins with its own size; the other fields begin as zero."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        setattr(self, "size", ctypes.sizeof(self))


class EngineInfo(_Sized):
    _fields_ = [("size", c_size_t), ("device", c_char_p), ("kernels", c_char_p), ("threads", c_int), ("detail", c_char_p),
                ("memory_limit_bytes", c_uint64), ("memory_active_bytes", c_uint64), ("memory_cached_bytes", c_uint64)]


class EngineOptions(_Sized):
    _fields_ = [("size", c_size_t), ("device", c_char_p), ("kernels", c_char_p), ("threads", c_int)]


class ModelEntry(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("path", c_char_p), ("source", c_char_p), ("type", c_char_p), ("bytes", c_uint64),
                ("runnable", c_bool), ("quantization", c_char_p), ("n_parameters", c_uint64),
                ("max_position_embeddings", c_int)]


ModelEntryFn = CFUNCTYPE(c_bool, c_void_p, POINTER(ModelEntry))


class ModelOptions(_Sized):
    _fields_ = [("size", c_size_t), ("context", c_int), ("kv_bits", c_int), ("precise", c_bool), ("allow_paging", c_bool),
                ("progress", ProgressFn), ("progress_user", c_void_p)]


class ModelInfo(_Sized):
    _fields_ = [("size", c_size_t), ("path", c_char_p), ("model_type", c_char_p), ("quantization", c_char_p),
                ("vocab_size", c_int), ("hidden_size", c_int), ("n_layers", c_int), ("n_heads", c_int),
                ("n_kv_heads", c_int), ("head_dim", c_int), ("max_position_embeddings", c_int), ("context", c_int),
                ("n_parameters", c_uint64), ("weights_bytes", c_uint64), ("weight_bytes_read_per_token", c_uint64),
                ("kv_bytes_per_token", c_uint64), ("kv_bytes_at_context", c_uint64), ("scratch_bytes", c_uint64),
                ("load_s", c_double), ("has_tokenizer", c_bool), ("has_chat_template", c_bool),
                ("chat_format", c_char_p), ("multiply_adds_per_token", c_uint64)]


class Conversation(_Sized):
    _fields_ = [("size", c_size_t), ("messages", c_void_p), ("n_messages", c_size_t), ("messages_json", c_char_p),
                ("tools_json", c_char_p), ("variables_json", c_char_p), ("no_generation_prompt", c_bool),
                ("date", c_char_p), ("documents_json", c_char_p), ("continue_final_message", c_bool),
                ("continue_field", c_char_p)]


class GenerateOptions(_Sized):
    _fields_ = [("size", c_size_t), ("max_tokens", c_int), ("temperature", c_float), ("top_p", c_float),
                ("top_k", c_int), ("min_p", c_float), ("repetition_penalty", c_float), ("repetition_context", c_int),
                ("seed", c_uint64), ("stop", POINTER(c_char_p)), ("n_stop", c_size_t), ("ignore_eos", c_bool),
                ("on_piece", PieceFn), ("on_prefill", PrefillFn), ("user", c_void_p), ("prompt_lookup", c_bool),
                ("draft", c_void_p)]


class Result(_Sized):
    _fields_ = [("size", c_size_t), ("text", c_void_p), ("len", c_size_t), ("tokens", POINTER(c_int32)),
                ("n_tokens", c_size_t), ("n_prompt_tokens", c_size_t), ("n_cached_tokens", c_size_t), ("finish", c_int),
                ("prefill_s", c_double), ("decode_s", c_double), ("first_token_s", c_double),
                ("n_drafted", c_size_t), ("n_accepted", c_size_t)]


class SessionInfo(_Sized):
    _fields_ = [("size", c_size_t), ("n_tokens", c_size_t), ("context", c_size_t), ("kv_bytes", c_uint64)]


class ConvertOptions(_Sized):
    _fields_ = [("size", c_size_t), ("quantize", c_bool), ("dequantize", c_bool), ("bits", c_int),
                ("group_size", c_int), ("mode", c_char_p), ("predicate", c_char_p), ("dtype", c_char_p),
                ("overwrite", c_bool), ("progress", ProgressFn), ("progress_user", c_void_p), ("lossless", c_bool),
                ("calibrate", c_char_p), ("calibrate_progress", ProgressFn)]


class BackendModel(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("bytes", c_uint64), ("context", c_int), ("loaded", c_bool)]


class BackendInfo(_Sized):
    _fields_ = [("size", c_size_t), ("id", c_char_p), ("name", c_char_p), ("description", c_char_p),
                ("reason", c_char_p), ("version", c_char_p), ("url", c_char_p), ("models", POINTER(BackendModel)),
                ("n_models", c_size_t), ("kind", c_int), ("priority", c_int), ("available", c_bool),
                ("latency_ms", c_double)]


class BackendsOptions(_Sized):
    _fields_ = [("size", c_size_t), ("timeout_ms", c_int)]


BackendModelFn = CFUNCTYPE(c_bool, c_void_p, POINTER(BackendModel))


class ConfigOptions(_Sized):
    _fields_ = [("size", c_size_t), ("no_dotenv", c_bool), ("confirm", ConfirmFn), ("on_note", NoteFn),
                ("user", c_void_p)]


class ConfigValue(_Sized):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("value", c_char_p), ("default_value", c_char_p),
                ("help", c_char_p), ("path", c_char_p), ("refused", c_char_p), ("source", c_int), ("is_secret", c_bool),
                ("is_settable", c_bool), ("is_valid", c_bool), ("range", c_char * 160), ("problem", c_char * 1024)]


class ClientOptions(_Sized):
    _fields_ = [("size", c_size_t), ("api_key", c_char_p), ("connect_timeout_s", c_int), ("idle_timeout_s", c_int),
                ("retries", c_int), ("no_failover", c_bool), ("context", c_int), ("engine", POINTER(EngineOptions)),
                ("model", POINTER(ModelOptions)), ("on_note", NoteFn), ("user", c_void_p)]


class ClientResult(_Sized):
    _fields_ = [("size", c_size_t), ("kind", c_int), ("backend", c_char_p), ("model", c_void_p),
                ("reasoning", c_void_p), ("tool_calls", c_void_p), ("n_failovers", c_int), ("restarted", c_bool),
                ("load_s", c_double), ("result", Result)]


class ClientInfo(_Sized):
    _fields_ = [("size", c_size_t), ("kind", c_int), ("backend", c_char_p), ("model", c_char_p), ("url", c_char_p),
                ("n_failovers", c_int)]


# The header's name of each struct, for the tests.
STRUCTS: Dict[str, Type[ctypes.Structure]] = {
    "we_error": Error, "we_engine_options": EngineOptions, "we_engine_info": EngineInfo, "we_model_entry": ModelEntry,
    "we_model_options": ModelOptions, "we_model_info": ModelInfo, "we_conversation": Conversation,
    "we_generate_options": GenerateOptions, "we_result": Result, "we_session_info": SessionInfo,
    "we_convert_options": ConvertOptions, "we_backend_model": BackendModel, "we_backend_info": BackendInfo,
    "we_backends_options": BackendsOptions, "we_config_options": ConfigOptions, "we_config_value": ConfigValue,
    "we_client_options": ClientOptions, "we_client_result": ClientResult, "we_client_info": ClientInfo,
}

# ---- Functions: result and parameters; handles are void pointers ----

_ERR = POINTER(Error)
_OUT = POINTER(c_void_p)
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "we_version": (c_char_p, []),
    "we_free": (None, [c_void_p]),
    "we_log_set_callback": (None, [LogFn, c_void_p]),
    "we_log_set_levels": (c_int, [c_char_p, _ERR]),
    "we_engine_open": (c_int, [_OUT, POINTER(EngineOptions), _ERR]),
    "we_engine_close": (None, [c_void_p]),
    "we_engine_get_info": (None, [c_void_p, POINTER(EngineInfo)]),
    "we_model_find": (c_int, [c_char_p, _OUT, _ERR]),
    "we_models_list": (c_int, [ModelEntryFn, c_void_p, _ERR]),
    "we_model_open": (c_int, [_OUT, c_void_p, c_char_p, POINTER(ModelOptions), _ERR]),
    "we_model_close": (None, [c_void_p]),
    "we_model_get_info": (None, [c_void_p, POINTER(ModelInfo)]),
    "we_model_tokenizer": (c_void_p, [c_void_p]),
    "we_model_default_sampling": (None, [c_void_p, POINTER(GenerateOptions)]),
    "we_tokenize": (c_int, [c_void_p, c_char_p, c_size_t, c_bool, POINTER(POINTER(c_int32)), POINTER(c_size_t), _ERR]),
    "we_session_open": (c_int, [_OUT, c_void_p, _ERR]),
    "we_session_close": (None, [c_void_p]),
    "we_session_get_info": (None, [c_void_p, POINTER(SessionInfo)]),
    "we_session_cancel": (None, [c_void_p]),
    "we_session_generate": (c_int, [c_void_p, POINTER(c_int32), c_size_t, POINTER(GenerateOptions), POINTER(Result), _ERR]),
    "we_session_chat": (c_int, [c_void_p, POINTER(Conversation), POINTER(GenerateOptions), POINTER(Result), _ERR]),
    "we_result_deinit": (None, [POINTER(Result)]),
    "we_convert_model_to_mlx": (c_int, [c_char_p, c_char_p, POINTER(ConvertOptions), _OUT, _ERR]),
    "we_backends_detect": (c_int, [_OUT, POINTER(BackendsOptions), _ERR]),
    "we_backends_close": (None, [c_void_p]),
    "we_backends_count": (c_size_t, [c_void_p]),
    "we_backends_optimal": (c_size_t, [c_void_p]),
    "we_backends_get": (c_int, [c_void_p, c_size_t, POINTER(BackendInfo), _ERR]),
    "we_config_load": (c_int, [POINTER(ConfigOptions), _ERR]),
    "we_config_get": (c_int, [c_char_p, POINTER(ConfigValue), _ERR]),
    "we_config_auto": (c_int, [c_void_p, c_int, ProposalFn, c_void_p, POINTER(c_size_t), _ERR]),
    "we_client_open": (c_int, [_OUT, c_char_p, POINTER(ClientOptions), _ERR]),
    "we_client_close": (None, [c_void_p]),
    "we_client_chat": (c_int, [c_void_p, POINTER(Conversation), POINTER(GenerateOptions), POINTER(ClientResult), _ERR]),
    "we_client_cancel": (None, [c_void_p]),
    "we_client_load": (c_int, [c_void_p, _ERR]),
    "we_client_unload": (c_int, [c_void_p, _ERR]),
    "we_client_models": (c_int, [c_void_p, BackendModelFn, c_void_p, _ERR]),
    "we_client_get_info": (None, [c_void_p, POINTER(ClientInfo)]),
    "we_client_result_deinit": (None, [POINTER(ClientResult)]),
    "we_client_result_json": (c_int, [POINTER(ClientResult), _OUT, _ERR]),
    "we_setup_recommendations": (c_int, [NoteFn, c_void_p, _ERR]),
}

# ---- Loading ----

_NAME = "libwhisperengine.dylib" if sys.platform == "darwin" else "libwhisperengine.so"
_lock = threading.Lock()
_loaded: Optional[ctypes.CDLL] = None


def _open() -> ctypes.CDLL:
    asked = os.environ.get("WHISPERENGINE_LIBRARY")
    packaged = os.path.join(os.path.dirname(os.path.abspath(__file__)), _NAME)
    # In the package, else installed on the system, by the name that programs link to.
    system = "libwhisperengine.0.dylib" if sys.platform == "darwin" else "libwhisperengine.so.0"
    path = asked or (packaged if os.path.exists(packaged) else system)
    try:
        opened = ctypes.CDLL(path)
    except OSError as e:
        raise LibraryNotFoundError(
            f"WhisperEngine's shared library cannot be loaded ({e}). Install the package with `pip install ./python`, the "
            f"library with `make install`, or set WHISPERENGINE_LIBRARY to {_NAME}.") from None
    for name, (result, parameters) in FUNCTIONS.items():
        try:
            function = getattr(opened, name)
        except AttributeError:
            raise LibraryNotFoundError(f"{path} is of another version: it has no {name}. Install the package again.") from None
        function.restype, function.argtypes = result, parameters
    return opened


def _load_configuration(opened: ctypes.CDLL) -> None:
    """Let ./.env and the user's file count, below the environment."""
    log = logging.getLogger("whisperengine.llm.llm_client")
    err = Error()
    options = ConfigOptions(on_note=NoteFn(lambda _user, note: log.info("%s", text(note))))
    check(opened.we_config_load(options, err), err)


def reload_configuration() -> None:
    """Look at ./.env and the user's file again."""
    _load_configuration(lib())


def lib() -> ctypes.CDLL:
    """The library, loaded at its first use, so that importing this package needs nothing."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                opened = _open()
                _load_configuration(opened)
                _loaded = opened
    return _loaded


# ---- Small things ----


def error_of(err: Error) -> WhisperEngineError:
    return BY_STATUS.get(err.status, InternalError)(text(err.message))


def check(status: int, err: Error) -> None:
    if status:
        raise error_of(err)


def text(raw: Optional[bytes]) -> str:
    return raw.decode("utf-8", "replace") if raw else ""


def path_text(raw: Optional[bytes]) -> str:
    return os.fsdecode(raw) if raw else ""


def utf8(value: str, what: str) -> bytes:
    """A text for the library, which ends it at NUL."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {type(value).__name__}, expected str")
    if "\0" in value:
        raise BY_STATUS[1](f"{what} holds a NUL character, which no text for a model can hold")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as e:
        raise BY_STATUS[6](f"{what} is no valid text: {e}") from None


def path_bytes(value: str, what: str) -> bytes:
    try:
        raw = os.fsencode(value)
    except TypeError:
        raise TypeError(f"{what} is {type(value).__name__}, expected str or a path") from None
    if b"\0" in raw:
        raise BY_STATUS[1](f"{what} holds a NUL character, which no path can hold")
    return raw


def take_text(pointer: c_void_p) -> str:
    """A text that the library handed over: copied and freed."""
    value = ctypes.cast(pointer, c_char_p).value
    lib().we_free(pointer)
    return text(value)


def take_path(pointer: c_void_p) -> str:
    """Likewise a path."""
    value = ctypes.cast(pointer, c_char_p).value
    lib().we_free(pointer)
    return path_text(value)
