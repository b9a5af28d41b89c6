# SPDX-License-Identifier: Apache-2.0
"""Models in MLX format on this machine, by WhisperEngine's own engine: on any processor, without the MLX framework.

    backend = create_mlx_backend()
    if backend and backend.load_model(get_default_mlx_model_config("llama-3.1-8b-instruct")):
        print(backend.generate_response("Hello, how are you?", max_tokens=100, temperature=0.7))
"""
from __future__ import annotations

import ctypes
import difflib
import json
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, TypedDict, Union

from .. import _config, _logging, _native
from .._pending import Pending
from ..errors import (DeviceError, GenerationCancelledError, InvalidArgumentError, ModelNotFoundError,
                      ModelNotLoadedError, UnsupportedError, WhisperEngineError)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MLXBackend", "MLXModelConfig", "Response", "create_mlx_backend", "get_default_mlx_model_config",
           "convert_model_to_mlx"]

NOT_AVAILABLE = "MLX not available. This backend requires Apple Silicon and mlx-lm package."

Response = Pending[str, str]  # what generate_response_async gives: pieces of text, and the whole


class GenerateOptions(TypedDict, total=False):
    """What generate_response takes besides the prompt. What is left out comes from the model's MLXModelConfig, else from the
    sampling that the model's makers recommend (generation_config.json)."""
    max_tokens: int
    temperature: float  # 0: the likeliest token each time
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    repetition_context: int
    seed: int  # the same seed, prompt and options give the same answer
    stop: Union[str, Sequence[str]]  # texts that end the answer and do not appear in it
    system_prompt: str
    raw: bool  # continue the prompt as it is, without the model's chat template


@dataclass
class MLXModelConfig:
    """Which model, and how it answers where a call says nothing else."""
    model_path: str  # a folder, a GGUF file, or a name as the command's --model takes it
    dtype: str = "float16"  # "float32": compute precisely and slowly; else the engine's own fast arithmetic
    max_tokens: int = 2048
    temperature: float = 0.7
    top_p: float = 0.9
    context: int = 0  # most tokens of prompt and answer; 0: the model's, at most 8192
    kv_bits: int = 16  # 16, 8 or 4 bits for each cached key and value


# ---- The engine: one for all models of the process ----

_engine: Optional[ctypes.c_void_p] = None
_engine_lock = threading.Lock()


def _after_fork() -> None:
    """The engine's threads are the parent's: the child starts its own, and leaves the parent's memory alone."""
    global _engine, _engine_lock
    _engine, _engine_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _open_engine(device: Optional[str]) -> ctypes.c_void_p:
    lib, err, engine = _native.lib(), _native.Error(), ctypes.c_void_p()
    options = _native.EngineOptions(device=_native.utf8(device, "device") if device else None)
    _native.check(lib.we_engine_open(ctypes.byref(engine), options, err), err)
    return engine


def _shared_engine() -> ctypes.c_void_p:
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = _open_engine(None)
        return _engine


# ---- A loaded model ----


class _Model:
    """A model and the sessions that answer on it: an idle one is taken again, since its cache knows the beginning of many
    conversations. As many work at once as MLX_BATCH_SIZE says; further answers wait for their turn, in order."""

    def __init__(self, handle: ctypes.c_void_p, config: MLXModelConfig, most_sessions: int) -> None:
        self.handle, self.config, self.pid, self.most_sessions = handle, config, os.getpid(), most_sessions
        self.n_sessions = 0
        self.idle: List[ctypes.c_void_p] = []
        self.waiting: List[object] = []  # tickets of the answers that have no session yet, the oldest first
        self.free = threading.Condition()
        self.answers: "set[Response]" = set()
        self.closing = False

    def close(self) -> None:
        """Ends what still runs."""
        with self.free:
            self.closing = True
            answers = list(self.answers)
        for answer in answers:
            answer.cancel()
        for answer in answers:
            answer.join()
        for session in self.idle:
            _native.lib().we_session_close(session)
        _native.lib().we_model_close(self.handle)

    def __del__(self) -> None:
        """Dropped without unload_model(): no answer is on its way then, since each holds its model."""
        if not self.closing and self.pid == os.getpid() and not sys.is_finalizing():
            self.close()

    def _wake(self) -> None:
        with self.free:
            self.free.notify_all()

    def _take_session(self, pending: Response, ticket: object) -> ctypes.c_void_p:
        try:
            pending.allow_cancel(self._wake)
            with self.free:
                while self.waiting[0] is not ticket or not (self.idle or self.n_sessions < self.most_sessions):
                    self.free.wait()
                    pending.check_cancelled()
                if self.idle:
                    return self.idle.pop()
                self.n_sessions += 1
        finally:
            with self.free:
                self.waiting.remove(ticket)
                self.free.notify_all()
        session, err = ctypes.c_void_p(), _native.Error()
        status = _native.lib().we_session_open(ctypes.byref(session), self.handle, err)
        if status:
            with self.free:
                self.n_sessions -= 1
                self.free.notify_all()
            raise _native.error_of(err)
        return session

    def _give_session(self, session: ctypes.c_void_p) -> None:
        with self.free:
            self.idle.append(session)
            self.free.notify_all()

    def start(self, call: Callable[["_Model", ctypes.c_void_p, Response], str]) -> Response:
        ticket = object()

        def work(pending: Response) -> str:
            try:
                session = self._take_session(pending, ticket)
                try:
                    pending.allow_cancel(lambda: _native.lib().we_session_cancel(session))
                    return call(self, session, pending)
                finally:
                    pending.allow_cancel(None)
                    self._give_session(session)
            finally:
                with self.free:
                    self.answers.discard(pending)

        with self.free:  # held until the answer is known here, so that close() finds it
            if self.closing:
                raise ModelNotLoadedError("the model was unloaded: call load_model() first")
            self.waiting.append(ticket)
            response = Response(work)
            self.answers.add(response)
            return response

    def tokenize(self, prompt: str) -> "tuple[Any, int]":
        lib, err = _native.lib(), _native.Error()
        tokenizer = lib.we_model_tokenizer(self.handle)
        if not tokenizer:
            raise UnsupportedError(f"{self.config.model_path} has no tokenizer: texts cannot be generated with it")
        raw = _encode(prompt)
        ids, n = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t()
        _native.check(lib.we_tokenize(tokenizer, raw, len(raw), True, ctypes.byref(ids), ctypes.byref(n), err), err)
        return ids, n.value


def _encode(prompt: str) -> bytes:
    try:
        return prompt.encode("utf-8")
    except UnicodeEncodeError as e:
        raise InvalidArgumentError(f"the prompt is no valid text: {e}") from None


def _check_options(options: GenerateOptions) -> None:
    for name in options:
        if name not in GenerateOptions.__annotations__:
            near = difflib.get_close_matches(name, GenerateOptions.__annotations__, 1)
            raise TypeError(f"generate_response() has no option {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))


def _number(options: GenerateOptions, name: str, kind: type, default: Any) -> Any:
    value: Any = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        raise TypeError(f"{name} is {value!r}, expected {'a number' if kind is float else 'a whole number'}")
    if kind is int and not 0 <= value < 2**(64 if name == "seed" else 31):
        raise InvalidArgumentError(f"{name} is {value}, expected a whole number from 0")
    return value


def _native_options(model: _Model, options: GenerateOptions, pending: Response) -> _native.GenerateOptions:
    o, config = _native.GenerateOptions(), model.config
    _native.lib().we_model_default_sampling(model.handle, o)
    o.max_tokens = _number(options, "max_tokens", int, config.max_tokens)
    o.temperature = _number(options, "temperature", float, config.temperature)
    o.top_p = _number(options, "top_p", float, config.top_p)
    o.top_k = _number(options, "top_k", int, o.top_k)
    o.min_p = _number(options, "min_p", float, o.min_p)
    o.repetition_penalty = _number(options, "repetition_penalty", float, o.repetition_penalty)
    o.repetition_context = _number(options, "repetition_context", int, 0)
    o.seed = _number(options, "seed", int, int.from_bytes(os.urandom(8), "little"))
    stop = options.get("stop") or ()
    texts = [_native.utf8(t, "stop") for t in ([stop] if isinstance(stop, str) else stop)]
    o.stop, o.n_stop = (ctypes.c_char_p * len(texts))(*texts), len(texts)

    # An exception would vanish in ctypes, and these raise none: a piece is whole UTF-8, and emit() only appends.
    def on_piece(_user: Any, text: Any, n: int, _token: int) -> bool:
        return pending.emit(ctypes.string_at(text, n).decode("utf-8", "replace")) if n else not pending.cancelled

    o.on_piece = _native.PieceFn(on_piece)
    o.on_prefill = _native.PrefillFn(lambda _user, _done, _total: not pending.cancelled)
    return o


def _answer(model: _Model, session: ctypes.c_void_p, pending: Response, prompt: str, options: GenerateOptions) -> str:
    lib, err, result = _native.lib(), _native.Error(), _native.Result()
    o = _native_options(model, options, pending)
    _logging.follow()
    if options.get("raw"):
        ids, n = model.tokenize(prompt)
        status = lib.we_session_generate(session, ids, n, o, result, err)
        lib.we_free(ids)
    else:
        messages = [{"role": "user", "content": prompt}]
        system = options.get("system_prompt")
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        conversation = _native.Conversation(messages_json=_encode(json.dumps(messages, ensure_ascii=False)))
        status = lib.we_session_chat(session, conversation, o, result, err)
    try:
        _native.check(status, err)
        if result.finish == _native.FINISH_CANCELLED:
            raise GenerationCancelledError("the answer was cancelled before it was complete")
        return ctypes.string_at(result.text, result.len).decode("utf-8", "replace") if result.text else ""
    finally:
        lib.we_result_deinit(result)


# ---- The public face ----


class MLXBackend:
    """One model at a time; its answers may be asked for from any thread."""

    def __init__(self) -> None:
        self._logger = _logging.logger("mlx_backend")
        self._lock = threading.RLock()
        self._model: Optional[_Model] = None
        self.last_error: Optional[WhisperEngineError] = None  # why load_model() last returned False

    def load_model(self, config: MLXModelConfig) -> bool:
        """Load a model in place of the one before. False: the log says why, and so does last_error."""
        with self._lock:
            try:
                self._load(config)
            except WhisperEngineError as e:
                self.last_error = e
                _logging.logger("mlx_backend").error("Error: %s", e)
                return False
            self.last_error = None
            return True

    def _load(self, config: MLXModelConfig) -> None:
        _logging.follow()
        lib, err, found = _native.lib(), _native.Error(), ctypes.c_void_p()
        if config.dtype not in ("float16", "bfloat16", "float32"):
            raise InvalidArgumentError(f"dtype is {config.dtype!r}, expected float16, bfloat16 or float32")
        asked = _native.path_bytes(config.model_path, "model_path")
        _native.check(lib.we_model_find(asked, ctypes.byref(found), err), err)
        path = os.fsencode(_native.take_path(found))
        most_sessions = int(_config.number("MLX_BATCH_SIZE"))
        engine = _shared_engine()
        self.unload_model()  # first: both together might not fit

        def work(pending: "Pending[None, ctypes.c_void_p]") -> ctypes.c_void_p:
            handle, trouble = ctypes.c_void_p(), _native.Error()
            options = _native.ModelOptions(context=config.context, kv_bits=config.kv_bits,
                                           precise=config.dtype == "float32",
                                           progress=_native.ProgressFn(lambda _user, _done, _total: not pending.cancelled))
            _native.check(lib.we_model_open(ctypes.byref(handle), engine, path, options, trouble), trouble)
            return handle

        loading: "Pending[None, ctypes.c_void_p]" = Pending(work)
        try:
            handle = loading.result()
        except KeyboardInterrupt:
            if loading._value is not None:  # it was complete when the interrupt came
                lib.we_model_close(loading._value)
            raise
        self._model = _Model(handle, config, most_sessions)

    def unload_model(self) -> None:
        """Give the model's memory back; answers that are on their way are cancelled."""
        with self._lock:
            model, self._model = self._model, None
            if model and model.pid == os.getpid():
                model.close()

    def _loaded(self) -> _Model:
        model = self._model
        if model is None:
            raise ModelNotLoadedError("no model is loaded: call load_model() first")
        if model.pid != os.getpid():
            raise DeviceError("the model was loaded by another process: after a fork, call load_model() again")
        return model

    def generate_response(self, prompt: str, **kwargs: Unpack[GenerateOptions]) -> str:
        """Answer a prompt. KeyboardInterrupt stops the engine, too."""
        return self.generate_response_async(prompt, **kwargs).result()

    def generate_response_async(self, prompt: str, **kwargs: Unpack[GenerateOptions]) -> Response:
        """Begin to answer a prompt. The answer can be awaited (str), iterated with `async for` or `for` (pieces of text as they are
        made), or waited for with result()."""
        if not isinstance(prompt, str):
            raise TypeError(f"prompt is {type(prompt).__name__}, expected str")
        _check_options(kwargs)
        return self._loaded().start(lambda model, session, pending: _answer(model, session, pending, prompt, kwargs))

    def get_model_info(self) -> Dict[str, Any]:
        """What is loaded, and the memory that it takes."""
        with self._lock:
            if self._model is None:
                return {"backend": "MLX", "loaded": False}
            model, lib = self._loaded(), _native.lib()
            info, engine = _native.ModelInfo(), _native.EngineInfo()
            lib.we_model_get_info(model.handle, info)
            lib.we_engine_get_info(_shared_engine(), engine)
            return {
                "backend": "MLX", "loaded": True, "model_path": _native.path_text(info.path),
                "model_type": _native.text(info.model_type), "quantization": _native.text(info.quantization),
                "dtype": model.config.dtype, "device": _native.text(engine.device), "kernels": _native.text(engine.kernels),
                "threads": engine.threads, "context": info.context,
                "max_position_embeddings": info.max_position_embeddings, "max_tokens": model.config.max_tokens,
                "temperature": model.config.temperature, "top_p": model.config.top_p, "vocab_size": info.vocab_size,
                "n_layers": info.n_layers, "n_parameters": info.n_parameters, "weights_bytes": info.weights_bytes,
                "kv_bytes_per_token": info.kv_bytes_per_token, "kv_bytes_at_context": info.kv_bytes_at_context,
                "scratch_bytes": info.scratch_bytes, "load_s": info.load_s, "has_chat_template": info.has_chat_template,
            }

    @classmethod
    def is_available(cls, device: Optional[str] = None) -> bool:
        """Can this machine run models with the engine? With device="mlx": by the MLX framework itself. The log says why not."""
        log = _logging.logger("mlx_backend")
        try:
            _logging.follow()
            if device is None:
                _shared_engine()
            else:
                _native.lib().we_engine_close(_open_engine(device))
            return True
        except WhisperEngineError as e:
            if device == "mlx":
                log.error("Error: %s", NOT_AVAILABLE)
                log.debug("%s", e)
            else:
                log.error("Error: %s", e)
            return False

    @classmethod
    def find_available_models(cls) -> List[str]:
        """Names of the models on this machine that the engine can run, as get_default_mlx_model_config() takes them."""
        _logging.follow()
        names: List[str] = []

        def entry(_user: Any, model: Any) -> bool:
            if model.contents.runnable:
                names.append(_native.path_text(model.contents.name))
            return True

        err = _native.Error()
        _native.check(_native.lib().we_models_list(_native.ModelEntryFn(entry), None, err), err)
        return names

    def __enter__(self) -> "MLXBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.unload_model()


def create_mlx_backend() -> Optional[MLXBackend]:
    """A backend; None where this machine cannot run one (the log says why)."""
    return MLXBackend() if MLXBackend.is_available() else None


def get_default_mlx_model_config(model_name: Optional[str] = None) -> MLXModelConfig:
    """The configuration of a model by its name: values come from MLX_MAX_TOKENS, MLX_TEMPERATURE and MLX_TOP_P, the name, where
    none is given, from MLX_MODEL_NAME. The model need not be there yet."""
    name = model_name if model_name is not None else _config.get("MLX_MODEL_NAME") or "default"
    path, err = ctypes.c_void_p(), _native.Error()
    try:
        _native.check(_native.lib().we_model_find(_native.path_bytes(name, "model_name"), ctypes.byref(path), err), err)
        model_path = _native.take_path(path)
    except ModelNotFoundError:
        model_path = name  # load_model() looks again, and tells where it should be
    return MLXModelConfig(model_path, max_tokens=int(_config.number("MLX_MAX_TOKENS")),
                          temperature=_config.number("MLX_TEMPERATURE"), top_p=_config.number("MLX_TOP_P"))


def convert_model_to_mlx(source_model_path: str, target_model_name: str, *, quantize: bool = False, q_bits: int = 0,
                         q_group_size: int = 0, q_mode: Optional[str] = None, dtype: Optional[str] = None,
                         dequantize: bool = False, overwrite: bool = False) -> bool:
    """Convert a Hugging Face model or a GGUF file to MLX format, into the models folder ($LOCAL_MODELS_DIR/mlx/NAME). False:
    the log says why, and nothing has changed."""
    log = _logging.logger("mlx_backend")
    try:
        _logging.follow()
        source = _native.path_bytes(source_model_path, "source_model_path")
        target = _native.path_bytes(target_model_name, "target_model_name")
        mode = _native.utf8(q_mode, "q_mode") if q_mode else None
        kind = _native.utf8(dtype, "dtype") if dtype else None

        def work(pending: "Pending[None, str]") -> str:
            err, path = _native.Error(), ctypes.c_void_p()
            options = _native.ConvertOptions(
                quantize=quantize, dequantize=dequantize, bits=q_bits, group_size=q_group_size, mode=mode, dtype=kind,
                overwrite=overwrite, progress=_native.ProgressFn(lambda _user, _done, _total: not pending.cancelled))
            lib = _native.lib()
            _native.check(lib.we_convert_model_to_mlx(source, target, options, ctypes.byref(path), err), err)
            return _native.take_path(path)

        converting: "Pending[None, str]" = Pending(work)
        log.info("%s was converted to %s", source_model_path, converting.result())
        return True
    except WhisperEngineError as e:
        log.error("Error: %s", e)
        return False
