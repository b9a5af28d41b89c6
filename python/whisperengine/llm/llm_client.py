# SPDX-License-Identifier: Apache-2.0
"""Conversations with whoever a URL names, and with the next backend of the chain where that one fails.

    client = LLMClient(api_url="mlx://llama-3.1-8b-instruct")
    response = client.chat_completion(messages=[{"role": "user", "content": "Explain Apple Silicon benefits"}])
    print(response["choices"][0]["message"]["content"])

Answers have the shape of OpenAI's chat completions, and say besides which `backend` answered."""
from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
import uuid
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

from .. import _logging, _native
from .._pending import Pending
from ..errors import GenerationCancelledError, InvalidArgumentError, WhisperEngineError
from .smart_backend_selector import BackendModel

__all__ = ["LLMClient", "ChatResponse"]

ChatResponse = Pending[Dict[str, Any], Dict[str, Any]]  # chunks, as in OpenAI's streams, and the whole


class LLMClient:
    """A client answers one conversation after the other; several threads wait for each other."""

    def __init__(self, api_url: Optional[str] = None, *, api_key: Optional[str] = None, failover: bool = True,
                 timeout: Optional[int] = None, retries: Optional[int] = None) -> None:
        """api_url: mlx://NAME, lmstudio://NAME, ollama://NAME, llamacpp://FILE, transformers://NAME or http(s)://HOST/v1#MODEL; None:
        what LLM_CHAT_API_URL says, else the model of MLX_MODEL_NAME, else the built-in one. timeout: seconds without a sign of
        life from a server. retries: of a request that failed in a way that may pass."""
        self._handle = ctypes.c_void_p()
        self._lock = threading.Lock()  # held by the call that runs
        self._guard = threading.Lock()  # of _answers and _closed
        self._pid = os.getpid()
        self._closed = True
        self._answers: "set[Pending[Any, Any]]" = set()
        _logging.follow()
        lib, err = _native.lib(), _native.Error()
        self._note = _native.NoteFn(lambda _user, text: _logging.logger("llm_client").warning("%s", _native.text(text)))
        options = _native.ClientOptions(
            api_key=_native.utf8(api_key, "api_key") if api_key is not None else None, no_failover=not failover,
            idle_timeout_s=timeout or 0, retries=-1 if retries == 0 else retries or 0, on_note=self._note)
        url = _native.utf8(api_url, "api_url") if api_url is not None else None
        _native.check(lib.we_client_open(ctypes.byref(self._handle), url, options, err), err)
        self._closed = False

    # ---- Answering ----

    def chat_completion(self, messages: Sequence[Dict[str, Any]], *, stream: bool = False, max_tokens: Optional[int] = None,
                        temperature: Optional[float] = None, top_p: Optional[float] = None, top_k: int = 0,
                        min_p: float = 0.0, repetition_penalty: float = 0.0, seed: int = 0,
                        stop: Union[str, Sequence[str], None] = None,
                        tools: Optional[Sequence[Dict[str, Any]]] = None) -> Any:
        """Answer a conversation: a dict like OpenAI's chat completions; with `stream` an iterator of chunks. What is left out comes
        from MLX_MAX_TOKENS, MLX_TEMPERATURE and MLX_TOP_P, else the backend chooses. KeyboardInterrupt stops the backend."""
        response = self.chat_completion_async(messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p,
                                              top_k=top_k, min_p=min_p, repetition_penalty=repetition_penalty, seed=seed,
                                              stop=stop, tools=tools)
        return iter(response) if stream else response.result()

    def chat_completion_async(self, messages: Sequence[Dict[str, Any]], *, max_tokens: Optional[int] = None,
                              temperature: Optional[float] = None, top_p: Optional[float] = None, top_k: int = 0,
                              min_p: float = 0.0, repetition_penalty: float = 0.0, seed: int = 0,
                              stop: Union[str, Sequence[str], None] = None,
                              tools: Optional[Sequence[Dict[str, Any]]] = None) -> ChatResponse:
        """Begin to answer. Await it for the whole, iterate it with `async for` or `for` for chunks, or wait with result()."""
        conversation = _native.Conversation(
            messages_json=_json(list(messages), "messages"), tools_json=_json(list(tools), "tools") if tools else None)
        o = _native.GenerateOptions(
            max_tokens=max_tokens or 0, temperature=float("nan") if temperature is None else temperature, top_p=top_p or 0.0,
            top_k=top_k, min_p=min_p, repetition_penalty=repetition_penalty, seed=seed)
        texts = [_native.utf8(t, "stop") for t in ([stop] if isinstance(stop, str) else stop or ())]
        o.stop, o.n_stop = (ctypes.c_char_p * len(texts))(*texts), len(texts)
        return self._start(lambda pending: self._chat(pending, conversation, o))

    def _start(self, call: Callable[["Pending[Any, Any]"], Any]) -> "Pending[Any, Any]":
        def work(pending: "Pending[Any, Any]") -> Any:
            try:
                with self._lock:  # one at a time
                    self._check_open()
                    try:
                        pending.allow_cancel(lambda: _native.lib().we_client_cancel(self._handle))
                        return call(pending)
                    finally:
                        pending.allow_cancel(None)
            finally:
                with self._guard:
                    self._answers.discard(pending)

        _logging.follow()
        with self._guard:  # held until the answer is known here, so that close() finds it
            self._check_open()
            response: "Pending[Any, Any]" = Pending(work)
            self._answers.add(response)
            return response

    def _chat(self, pending: ChatResponse, conversation: _native.Conversation,
              o: _native.GenerateOptions) -> Dict[str, Any]:
        lib, err, result = _native.lib(), _native.Error(), _native.ClientResult()
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}

        def chunk(delta: Dict[str, Any], finish: Optional[str] = None) -> bool:
            return pending.emit({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        def on_piece(_user: Any, text: Any, n: int, _token: int) -> bool:
            if not n:
                return not pending.cancelled
            return chunk({"content": ctypes.string_at(text, n).decode("utf-8", "replace")})

        chunk({"role": "assistant", "content": ""})
        o.on_piece = _native.PieceFn(on_piece)
        o.on_prefill = _native.PrefillFn(lambda _user, _done, _total: not pending.cancelled)
        status = lib.we_client_chat(self._handle, conversation, o, result, err)
        try:
            _native.check(status, err)
            if result.result.finish == _native.FINISH_CANCELLED:
                raise GenerationCancelledError("the answer was cancelled before it was complete")
            raw = ctypes.c_void_p()
            _native.check(lib.we_client_result_json(result, ctypes.byref(raw), err), err)
            whole: Dict[str, Any] = json.loads(_native.take_text(raw))
        finally:
            lib.we_client_result_deinit(result)
        whole["id"], whole["created"] = head["id"], head["created"]
        message = whole["choices"][0]
        delta = {k: v for k, v in message["message"].items() if k == "tool_calls"}
        pending.emit({**{k: v for k, v in whole.items() if k != "choices"}, "object": head["object"],
                      "choices": [{"index": 0, "delta": delta, "finish_reason": message["finish_reason"]}]})
        return whole

    # ---- The rest ----

    def load(self) -> None:
        """Bring the model into memory, so that the first answer need not wait."""
        self._call("we_client_load")

    def unload(self) -> None:
        """Give the model's memory back."""
        self._call("we_client_unload")

    def _call(self, name: str) -> None:
        def call(_pending: "Pending[None, None]") -> None:
            err = _native.Error()
            _native.check(getattr(_native.lib(), name)(self._handle, err), err)

        self._start(call).result()

    def list_models(self) -> List[BackendModel]:
        """The models of the client's backend."""
        def call(_pending: "Pending[None, List[BackendModel]]") -> List[BackendModel]:
            models: List[BackendModel] = []

            def add(_user: Any, model: Any) -> bool:
                m = model.contents
                models.append(BackendModel(_native.text(m.name), m.bytes, m.context, m.loaded))
                return True

            err = _native.Error()
            _native.check(_native.lib().we_client_models(self._handle, _native.BackendModelFn(add), None, err), err)
            return models

        found: List[BackendModel] = self._start(call).result()
        return found

    def get_info(self) -> Dict[str, Any]:
        """Who answers now."""
        with self._lock:
            self._check_open()
            info = _native.ClientInfo()
            _native.lib().we_client_get_info(self._handle, info)
            return {"backend": _native.text(info.backend), "model": _native.text(info.model),
                    "url": _native.text(info.url), "n_failovers": info.n_failovers}

    def _check_open(self) -> None:
        if self._closed:
            raise WhisperEngineError("the client is closed: make another one")
        if self._pid != os.getpid():
            raise WhisperEngineError("the client was made by another process: after a fork, make another one")

    def close(self) -> None:
        """Give back what the client holds; answers that are on their way are cancelled."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            answers = list(self._answers)
        for answer in answers:
            answer.cancel()
        for answer in answers:
            answer.join()
        if self._pid == os.getpid():
            _native.lib().we_client_close(self._handle)

    def __enter__(self) -> "LLMClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        """Dropped without close(): no answer is on its way then, since each holds its client."""
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            self._closed = True
            if self._handle and self._pid == os.getpid():
                _native.lib().we_client_close(self._handle)


def _json(value: Any, what: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as e:
        raise InvalidArgumentError(f"{what} hold no valid text: {e}") from None
    except (TypeError, ValueError) as e:
        raise InvalidArgumentError(f"{what} cannot be written as JSON: {e}") from None
