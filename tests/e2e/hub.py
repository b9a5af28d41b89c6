# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face hub: its API, its redirects to a storage on another address, and everything that can go
wrong between here and there.

    hub = Hub()
    commit = hub.add("org/name", {"config.json": b"{}", "model.safetensors": big}, lfs=["model.safetensors"])
    ... HF_ENDPOINT=hub.url ...
    hub.close()

`hub.asked` is what was requested, in order. `hub.fault` and `hub.storage_fault` are called with each request for a file
(`Asked`) and may answer something else: give None for the usual answer, or

    Status(404, {"X-Error-Code": "EntryNotFound"})      this status
    Cut(1000)                                           break the connection off behind so many bytes of the body
    Content(b"...", etag="other")                       these bytes instead
    Whole()                                             no ranges: 200 and all of it
    Slow(bytes, seconds)                                so many bytes at a time, with a pause behind each
"""
import functools
import hashlib
import http.server
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections import namedtuple

Asked = namedtuple("Asked", "server method path query headers count")  # count: of this path, from 0
Status = namedtuple("Status", "code headers", defaults=({},))
Cut = namedtuple("Cut", "after")
Content = namedtuple("Content", "body etag", defaults=(None,))
Whole = namedtuple("Whole", "")
Slow = namedtuple("Slow", "piece seconds")


@functools.lru_cache(64)
def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@functools.lru_cache(64)
def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Hub:
    def __init__(self, tls=None):
        self.repos, self.asked, self.counts = {}, [], {}
        self.fault = self.storage_fault = self.api_fault = lambda asked: None
        self.page_size, self.next_link = 1000, None
        self.gated = self.private = None  # a token that opens every repository
        self.list_change = lambda entries: entries  # what the list of files says may differ from what is there
        self.lock = threading.Lock()
        self.storage_server = self._start("storage", second_address())
        self.server = self._start("hub", "127.0.0.1", tls)
        self.storage = "http://%s:%d" % self.storage_server.server_address[:2]
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.server.server_address[1])

    def _start(self, name, address, tls=None):
        hub = self

        class Handler(RequestHandler):
            pass
        Handler.hub, Handler.name = hub, name
        server = http.server.ThreadingHTTPServer((address, 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self):
        for server in (self.server, self.storage_server):
            server.shutdown()
            server.server_close()

    def add(self, repo, files, lfs=(), ref="main"):
        """A commit with these files; gives its hash."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        r = self.repos.setdefault(repo, {"refs": {}, "commits": {}})
        r["commits"][commit] = {path: (content, path in lfs) for path, content in files.items()}
        r["refs"][ref] = commit
        return commit

    def clear(self):
        with self.lock:
            self.asked.clear()
            self.counts.clear()

    def paths(self, server=None, method="GET"):
        with self.lock:
            return [a.path for a in self.asked if a.method == method and (server is None or a.server == server)]

    def note(self, server, method, url, headers):
        parts = urllib.parse.urlsplit(url)
        with self.lock:
            count = self.counts.get((server, parts.path), 0)
            self.counts[server, parts.path] = count + 1
            asked = Asked(server, method, urllib.parse.unquote(parts.path), parts.query, headers, count)
            self.asked.append(asked)
        return asked


def second_address():
    """Another address of this machine, where it has one: the token must not go there."""
    try:
        with socket.socket() as s:
            s.bind(("127.0.0.2", 0))
        return "127.0.0.2"
    except OSError:
        return "127.0.0.1"


class RequestHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ssl.SSLError):  # the client left: a killed pull, a certificate that it refused
            pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        asked = self.hub.note(self.name, self.command, self.path, self.headers)
        try:
            if self.name == "storage":
                self.give_blob(asked)
            else:
                self.route(asked)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- Answers ----

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code, error=None):
        self.answer(code, b"no", **({"X_Error_Code": error} if error else {}))

    def give(self, content, fault, **headers):
        """A file's content: ranges, and what goes wrong."""
        if isinstance(fault, Status):
            return self.answer(fault.code, b"no", **{k.replace("-", "_"): v for k, v in fault.headers.items()})
        if isinstance(fault, Content):
            content = fault.body
            if fault.etag:
                headers["ETag"] = f'"{fault.etag}"'
        wanted, code = self.headers.get("Range"), 200
        body = content
        if wanted and not isinstance(fault, Whole):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            first, last = int(first), min(int(last) if last else len(content) - 1, len(content) - 1)
            if first >= len(content):
                return self.answer(416, Content_Range=f"bytes */{len(content)}")
            body, code = content[first:last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, Cut):
            self.wfile.write(body[:fault.after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(fault, Slow):
            for i in range(0, len(body), fault.piece):
                self.wfile.write(body[i:i + fault.piece])
                self.wfile.flush()
                time.sleep(fault.seconds)
        else:
            self.wfile.write(body)

    # ---- The hub ----

    def route(self, asked):
        path = asked.path
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self.api(asked, "/".join(parts[2:4]), parts[4:])
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.resolve(asked, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        self.refuse(404)

    def allowed(self, repo):
        """None, or after an answer False."""
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        r = self.hub.repos.get(repo)
        if r is None:
            self.refuse(401 if not given else 404, "RepoNotFound")
        elif self.hub.private and given != self.hub.private:
            self.refuse(401, "RepoNotFound")
        return r is not None and not (self.hub.private and given != self.hub.private)

    def commit(self, repo, revision):
        r = self.hub.repos[repo]
        return revision if revision in r["commits"] else r["refs"].get(revision)

    def api(self, asked, repo, rest):
        fault = self.hub.api_fault(asked)
        if fault is not None:
            return self.give(b"", fault)
        if not self.allowed(repo):
            return
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self.commit(repo, "/".join(rest[1:]) if rest[:1] == ["revision"] and len(rest) > 1 else revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = self.hub.repos[repo]["commits"][commit]
        if rest[:1] == ["tree"]:
            return self.tree(asked, repo, commit, files)
        answer = {"id": repo, "modelId": repo, "sha": commit, "private": False, "gated": False, "tags": [], "downloads": 0,
                  "likes": 0, "siblings": [{"rfilename": p} for p in files]}
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")

    def tree(self, asked, repo, commit, files):
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": d}
                   for d in sorted({p.rsplit("/", 1)[0] for p in files if "/" in p})]
        for path, (content, lfs) in files.items():
            entry = {"type": "file", "oid": git_oid(content), "size": len(content), "path": path}
            if lfs:
                entry["oid"] = git_oid(b"pointer to " + sha256(content).encode())
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        entries = self.hub.list_change(entries)
        start = int(urllib.parse.parse_qs(asked.query).get("cursor", ["0"])[0])
        page, headers = entries[start:start + self.hub.page_size], {"Content_Type": "application/json"}
        if start + self.hub.page_size < len(entries):
            base = self.hub.next_link or self.hub.url
            url = f"{base}/api/models/{repo}/tree/{commit}?recursive=true&cursor={start + self.hub.page_size}"
            headers["Link"] = f'<{url}>; rel="next"'
        self.answer(200, json.dumps(page).encode(), **headers)

    def resolve(self, asked, repo, revision, path):
        if not self.allowed(repo):
            return
        if self.hub.gated and (self.headers.get("Authorization") or "") != f"Bearer {self.hub.gated}":
            return self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        commit = self.commit(repo, revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        entry = self.hub.repos[repo]["commits"][commit].get(path)
        if entry is None:
            return self.refuse(404, "EntryNotFound")
        content, lfs = entry
        fault = self.hub.fault(asked)
        if not lfs or fault is not None:
            return self.give(content, fault, X_Repo_Commit=commit, ETag=f'"{git_oid(content)}"')
        self.send_response(302)
        for name, value in {"Location": f"{self.hub.storage}/{repo}/{commit}/{path}?signature=x", "X-Repo-Commit": commit,
                            "X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content)),
                            "Accept-Ranges": "bytes", "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    # ---- The storage ----

    def give_blob(self, asked):
        org, name, commit, path = asked.path.strip("/").split("/", 3)
        content, _ = self.hub.repos[f"{org}/{name}"]["commits"][commit][path]
        self.give(content, self.hub.storage_fault(asked), ETag=f'"s3-{len(content)}"', Accept_Ranges="bytes")
