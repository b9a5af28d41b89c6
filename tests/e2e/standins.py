# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the servers of other backends, after their published interfaces: Ollama's (docs/api.md), LM Studio's (/api/v1,
/api/v0, /v1) and OpenAI's chat completions. They answer with `pieces`, or with what `answer(messages)` gives, and misbehave
on request:

    with Ollama(pieces=["Hel", "lo"], cut_after=1) as server:
        self.run_we("run", "--model", f"ollama://{server.models[0]}@{server.host}", "Hi")
        server.requests[-1].json["messages"]

Python's standard library only; each server listens on a free port of 127.0.0.1 and ends with its `with` block."""
import http.server
import json
import socket
import struct
import threading
import time


class Request:
    """What was asked: method, path, headers (names in lower case), body."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Cut(Exception):
    """The connection is to break off here."""


class Standin:
    """models       : names; the first `loaded` of them are in memory
    pieces        : of the answer; `answer`, a function of the messages, may give them instead
    reasoning     : pieces of the model's thoughts, sent first
    tool_calls    : [(name, arguments as a dict)]
    chunk         : bytes of a send; None: an event at a time
    wait_s        : before the first byte of an answer, pause_s between its pieces
    silent_s      : before the first byte of anything
    cut_after     : break the connection off (with a reset) behind so many pieces
    end_after     : end the answer, cleanly but unfinished, behind so many pieces
    loading       : so many requests for an answer get a 503 first
    status, body, content_type: every answer is this one
    broken_json   : a piece of the answer is no JSON
    huge_line     : a line of so many bytes comes first
    error_in_stream: this message comes in place of the last piece
    key           : requests without `Authorization: Bearer KEY` get a 401
    stream        : False: answers come whole, whatever was asked"""
    name = "stand-in"

    def __init__(self, models=("tiny",), loaded=0, pieces=("Hello", ", ", "wor", "ld!"), answer=None, reasoning=(), tool_calls=(),
                 chunk=None, wait_s=0, pause_s=0, silent_s=0, cut_after=None, end_after=None, loading=0, status=None, body=None,
                 content_type=None, broken_json=False, huge_line=0, error_in_stream=None, key=None, stream=True,
                 finish="stop", address="127.0.0.1", port=0):
        self.models, self.loaded = list(models), set(list(models)[:loaded])
        self.pieces, self.answer, self.reasoning, self.tool_calls = list(pieces), answer, list(reasoning), list(tool_calls)
        self.chunk, self.wait_s, self.pause_s, self.cut_after, self.end_after = chunk, wait_s, pause_s, cut_after, end_after
        self.silent_s = silent_s
        self.loading, self.status, self.body, self.content_type = loading, status, body, content_type
        self.broken_json, self.huge_line, self.error_in_stream = broken_json, huge_line, error_in_stream
        self.key, self.stream, self.finish, self.address, self.wanted_port = key, stream, finish, address, port
        self.requests, self.reached, self.woken = [], threading.Event(), threading.Event()
        self._lock = threading.Lock()

    # ---- Running ----

    def __enter__(self):
        standin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def _any(self):
                standin._serve(self)

            do_GET = do_POST = do_DELETE = _any

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a client that goes away is part of many tests

        self.server = Server((self.address, self.wanted_port), Handler)
        self.port = self.server.server_address[1]
        self.host = f"{self.address}:{self.port}"
        self.url = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.woken.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answers(self, path=None):
        """The requests for an answer, or those of one path."""
        return [r for r in self.requests if (r.path == path if path else r.method == "POST" and self.is_answer(r))]

    def is_answer(self, request):
        return "messages" in request.json or "prompt" in request.json or "input" in request.json

    # ---- One request ----

    def _serve(self, h):
        length = int(h.headers.get("Content-Length") or 0)
        body = h.rfile.read(length)
        request = Request(h.command, h.path, {k.lower(): v for k, v in h.headers.items()}, body)
        with self._lock:
            self.requests.append(request)
        h.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.woken.wait(self.silent_s)
        try:
            if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                self.send(h, 401, {"error": {"message": "invalid API token", "type": "invalid_request"}})
            elif self.body is not None or self.status:
                self.send_raw(h, self.status or 200, self.content_type or "text/html", self.body or b"")
            else:
                self.handle(h, request)
        except Cut:
            # A reset, as when the process is killed: what was sent before still arrives.
            time.sleep(0.05)
            h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            h.close_connection = True
            h.connection.close()
        except (BrokenPipeError, ConnectionError):
            h.close_connection = True

    def send_raw(self, h, status, content_type, body):
        if isinstance(body, str):
            body = body.encode()
        h.send_response(status)
        h.send_header("Content-Type", content_type)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def send(self, h, status, value):
        self.send_raw(h, status, self.content_type or "application/json", json.dumps(value))

    def not_found(self, h, request):
        self.send(h, 404, {"error": "not found"})

    # ---- An answer ----

    def is_loading(self, h):
        with self._lock:
            loading, self.loading = self.loading > 0, max(self.loading - 1, 0)
        if loading:
            self.send(h, 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
        return loading

    def pieces_for(self, messages):
        return list(self.answer(messages)) if self.answer else self.pieces

    def send_stream(self, h, content_type, events):
        """events: bytes, each a whole event; None where a piece of the answer is complete."""
        self.woken.wait(self.wait_s)
        h.send_response(200)
        h.send_header("Content-Type", self.content_type or content_type)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        n = 0
        if self.huge_line:
            self._chunk(h, b"data: " + b"x" * self.huge_line)
        for event in events:
            if event is not None:
                self._send_event(h, event)
                continue
            n += 1
            self.woken.wait(self.pause_s)
            self.reached.set()
            if n == self.cut_after:
                raise Cut
            if n == self.end_after:
                break
        h.wfile.write(b"0\r\n\r\n")

    def _send_event(self, h, event):
        size = self.chunk or len(event)
        for i in range(0, len(event), size):
            self._chunk(h, event[i:i + size])

    @staticmethod
    def _chunk(h, data):
        h.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
        h.wfile.flush()


class OpenAI(Standin):
    """/v1/models, /v1/chat/completions, /v1/completions."""
    name = "OpenAI-style server"
    prefix = "/v1"
    done = True  # "data: [DONE]" at the end
    line_end = "\n"

    def handle(self, h, request):
        path = request.path
        if path == self.prefix + "/models":
            self.send(h, 200, {"object": "list", "data": [self.model_entry(m) for m in self.models]})
        elif path in (self.prefix + "/chat/completions", self.prefix + "/completions"):
            self.complete(h, request, chat=path.endswith("chat/completions"))
        else:
            self.not_found(h, request)

    def model_entry(self, model):
        return {"id": model, "object": "model", "created": 0, "owned_by": "stand-in"}

    def figures(self, n_prompt, n_tokens):
        return {"usage": {"prompt_tokens": n_prompt, "completion_tokens": n_tokens, "total_tokens": n_prompt + n_tokens}}

    def complete(self, h, request, chat):
        if self.is_loading(h):
            return
        body = request.json
        if body.get("model") not in self.models:
            self.send(h, 404, {"error": {"message": f"model {body.get('model')!r} not found", "type": "invalid_request_error",
                                         "code": "model_not_found"}})
            return
        self.loaded.add(body["model"])
        pieces = self.pieces_for(body.get("messages") or body.get("prompt"))
        figures = self.figures(len(request.body) // 4, len(pieces))
        if not self.stream or not body.get("stream"):
            message = {"role": "assistant", "content": "".join(pieces)}
            if self.reasoning:
                message["reasoning_content"] = "".join(self.reasoning)
            if self.tool_calls:
                message["tool_calls"] = [self.tool_call(i) for i in range(len(self.tool_calls))]
            choice = {"index": 0, "finish_reason": self.finish}
            choice.update({"message": message} if chat else {"text": "".join(pieces)})
            self.send(h, 200, {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice], **figures})
            return
        self.send_stream(h, "text/event-stream", self.events(body, pieces, chat, figures))

    def tool_call(self, i):
        name, arguments = self.tool_calls[i]
        return {"index": i, "id": f"call_{i}", "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)}}

    def event(self, data, name=None):
        text = data if isinstance(data, str) else json.dumps(data)
        head = f"event: {name}{self.line_end}" if name else ""
        return (head + f"data: {text}{self.line_end}{self.line_end}").encode()

    def events(self, body, pieces, chat, figures):
        def chunk(delta, finish=None, **more):
            choice = {"index": 0, "finish_reason": finish}
            choice.update({"delta": delta} if chat else {"text": delta.get("content", "")})
            return self.event({"id": "1", "object": "chat.completion.chunk", "model": body["model"], "choices": [choice], **more})

        yield f": a comment{self.line_end}{self.line_end}".encode()
        if chat:
            yield chunk({"role": "assistant", "content": ""})
        for thought in self.reasoning:
            yield chunk({"reasoning_content": thought})
        for i, piece in enumerate(pieces):
            if self.error_in_stream and i + 1 == len(pieces):
                yield self.event({"error": {"message": self.error_in_stream, "type": "server_error"}}, name="error")
                return
            if self.broken_json and i == len(pieces) // 2:
                yield self.event('{"choices": [{"delta": {"content": ')
            yield chunk({"content": piece})
            yield None
        for i in range(len(self.tool_calls)):
            yield chunk({"tool_calls": [self.tool_call(i)]})
        yield chunk({}, self.finish)
        if (body.get("stream_options") or {}).get("include_usage"):
            yield self.event({"id": "1", "object": "chat.completion.chunk", "choices": [], **figures})
        if self.done:
            yield self.event("[DONE]")


class LMStudio(OpenAI):
    """level "v1": 0.4; "v0": 0.3.6; "openai": before. Addresses that a level lacks get LM Studio's 200 with an "error"."""
    name = "LM Studio"

    def __init__(self, *args, level="v1", **kw):
        super().__init__(*args, **kw)
        self.level = level
        self.instances = {m: m for m in self.loaded}

    def not_found(self, h, request):
        self.send(h, 200, {"error": f"Unexpected endpoint or method. ({request.method} {request.path}). Returning 200 anyway"})

    def handle(self, h, request):
        path, has_v1, has_v0 = request.path, self.level == "v1", self.level in ("v1", "v0")
        if has_v1 and path == "/api/v1/models":
            self.send(h, 200, {"models": [self.v1_entry(m) for m in self.models] +
                               [{"type": "embedding", "publisher": "p", "key": "text-embedding", "loaded_instances": []}]})
        elif has_v1 and path == "/api/v1/models/load":
            self.load(h, request.json)
        elif has_v1 and path == "/api/v1/models/unload":
            self.unload(h, request.json)
        elif has_v1 and path == "/api/v1/chat":
            self.chat(h, request.json)
        elif has_v0 and path.startswith("/api/v0/"):
            self.prefix = "/api/v0"
            super().handle(h, request)
        elif path.startswith("/v1/"):
            self.prefix = "/v1"
            super().handle(h, request)
        else:
            self.not_found(h, request)

    def model_entry(self, model):
        entry = super().model_entry(model)
        if self.prefix == "/api/v0":
            entry.update(type="llm", publisher="p", arch="llama", compatibility_type="gguf", quantization="Q4_K_M",
                         state="loaded" if model in self.loaded else "not-loaded", max_context_length=4096)
        return entry

    def v1_entry(self, model):
        instances = [{"id": i, "config": {"context_length": 4096}} for i, m in self.instances.items() if m == model]
        return {"type": "llm", "publisher": "p", "key": model, "display_name": model, "architecture": "llama",
                "quantization": {"name": "Q4_K_M", "bits_per_weight": 4}, "size_bytes": 123456789, "params_string": "1B",
                "loaded_instances": instances, "max_context_length": 4096, "format": "gguf",
                "capabilities": {"vision": False, "trained_for_tool_use": True}, "description": None}

    def figures(self, n_prompt, n_tokens):
        figures = super().figures(n_prompt, n_tokens)
        if self.prefix == "/api/v0":
            figures["stats"] = {"tokens_per_second": 50.0, "time_to_first_token": 0.111, "generation_time": 0.5,
                                "stop_reason": "eosFound"}
        return figures

    def unknown_model(self, h, model):
        self.send(h, 404, {"error": {"type": "model_not_found", "message": f"Model {model!r} not found", "param": "model"}})

    def load(self, h, body):
        model = body["model"]
        if model not in self.models:
            return self.unknown_model(h, model)
        instance = model if model not in self.instances else f"{model}:{len(self.instances) + 1}"
        self.instances[instance] = model
        self.loaded.add(model)
        self.send(h, 200, {"type": "llm", "instance_id": instance, "load_time_seconds": 0.01, "status": "loaded"})

    def unload(self, h, body):
        model = self.instances.pop(body["instance_id"], None)
        if model is None:
            return self.unknown_model(h, body["instance_id"])
        self.loaded.discard(model)
        self.send(h, 200, {"instance_id": body["instance_id"]})

    def chat(self, h, body):
        if self.is_loading(h):
            return
        if body["model"] not in self.models:
            self.unknown_model(h, body["model"])
            return
        messages = [{"role": "system", "content": body["system_prompt"]}] if body.get("system_prompt") else []
        pieces = self.pieces_for(messages + [{"role": "user", "content": body["input"]}])
        self.send_stream(h, "text/event-stream", self.chat_events(body, pieces))

    def chat_events(self, body, pieces):
        def event(name, **more):
            return self.event({"type": name, **more}, name=name)

        yield event("chat.start", model_instance_id=body["model"])
        if body["model"] not in self.loaded:
            yield event("model_load.start", model_instance_id=body["model"])
            yield event("model_load.progress", model_instance_id=body["model"], progress=0.5)
            yield event("model_load.end", model_instance_id=body["model"], load_time_seconds=0.25)
            self.loaded.add(body["model"])
            self.instances[body["model"]] = body["model"]
        yield event("prompt_processing.start")
        yield event("prompt_processing.end")
        if self.reasoning:
            yield event("reasoning.start")
        for thought in self.reasoning:
            yield event("reasoning.delta", content=thought)
        yield event("message.start")
        for i, piece in enumerate(pieces):
            if self.error_in_stream and i + 1 == len(pieces):
                yield event("error", error={"type": "internal_error", "message": self.error_in_stream})
                break
            if self.broken_json and i == len(pieces) // 2:
                yield self.event('{"type": "message.delta", "content": ', name="message.delta")
            yield event("message.delta", content=piece)
            yield None
        yield event("message.end")
        yield event("chat.end", result={
            "model_instance_id": body["model"], "output": [{"type": "message", "content": "".join(pieces)}],
            "stats": {"input_tokens": 11, "total_output_tokens": len(pieces), "reasoning_output_tokens": len(self.reasoning),
                      "tokens_per_second": 50.0, "time_to_first_token_seconds": 0.25, "model_load_time_seconds": 0.25}})


class Ollama(Standin):
    """/api/version, /api/tags, /api/ps, /api/chat, /api/generate. Names without a tag mean ":latest"."""
    name = "Ollama"
    version = "0.12.3"

    def handle(self, h, request):
        path = request.path
        if path == "/api/version":
            self.send(h, 200, {"version": self.version})
        elif path in ("/api/tags", "/api/ps"):
            shown = self.models if path == "/api/tags" else [m for m in self.models if m in self.loaded]
            self.send(h, 200, {"models": [{"name": m, "model": m, "size": 123456789, "digest": "0" * 64,
                                           "details": {"format": "gguf", "family": "llama"}} for m in shown]})
        elif path in ("/api/chat", "/api/generate"):
            self.complete(h, request, chat=path == "/api/chat")
        elif path == "/":
            self.send_raw(h, 200, "text/plain", "Ollama is running")
        else:
            self.send_raw(h, 404, "text/plain", "404 page not found")

    def is_answer(self, request):
        return bool(request.json.get("messages") or request.json.get("prompt"))

    def find(self, name):
        return name if name in self.models else f"{name}:latest" if f"{name}:latest" in self.models else None

    def complete(self, h, request, chat):
        body = request.json
        if self.is_loading(h):
            return
        model = self.find(body["model"])
        if model is None:
            self.send(h, 404, {"error": f"model '{body['model']}' not found"})
            return
        if not self.is_answer(request):  # load or unload
            unload = body.get("keep_alive") == 0
            (self.loaded.discard if unload else self.loaded.add)(model)
            self.send(h, 200, {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "response": "", "done": True,
                               "done_reason": "unload" if unload else "load"})
            return
        self.loaded.add(model)
        pieces = self.pieces_for(body.get("messages") or body.get("prompt"))
        lines = self.lines(body, pieces, chat)
        if self.stream and body.get("stream", True):
            self.send_stream(h, "application/x-ndjson", lines)
        else:
            last = json.loads([line for line in lines if line][-1])
            last.update({"message": {"role": "assistant", "content": "".join(pieces)}} if chat else {"response": "".join(pieces)})
            self.send(h, 200, last)

    def lines(self, body, pieces, chat):
        def line(more, content="", done=False, **message):
            value = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "done": done}
            value.update({"message": {"role": "assistant", "content": content, **message}} if chat
                         else {"response": content, **message})
            value.update(more)
            return (json.dumps(value) + "\n").encode()

        for thought in self.reasoning:
            yield line({}, thinking=thought)
        for i, piece in enumerate(pieces):
            if self.error_in_stream and i + 1 == len(pieces):
                yield (json.dumps({"error": self.error_in_stream}) + "\n").encode()
                return
            if self.broken_json and i == len(pieces) // 2:
                yield b'{"message": {"content": \n'
            yield line({}, piece)
            yield None
        if self.tool_calls:
            yield line({}, tool_calls=[{"function": {"name": n, "arguments": a}} for n, a in self.tool_calls])
        yield line({"done_reason": self.finish, "total_duration": 4883583458, "load_duration": 250000000, "prompt_eval_count": 26,
                    "prompt_eval_duration": 342546000, "eval_count": len(pieces), "eval_duration": 80000000}, done=True)
