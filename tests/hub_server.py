"""A stand-in of the Hugging Face hub's HTTP interface, in memory: make a repository, commit to it, read a revision."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

TOKEN = "hf_" + "t" * 34


@dataclass
class Hub:
    """What the hub holds.

    Attributes:
        commits: files by commit, by repository; the last one is `main`.
        private: private repositories.
        requests: method and path of each request.
        down: answer every request with 503.
    """

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    down: bool = False
    address: str = ""

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files changed; return its id."""
        history = self.commits.setdefault(repo, {})
        before = list(history.values())[-1] if history else {}
        oid = hashlib.sha1(f"{repo}{len(history)}".encode()).hexdigest()
        history[oid] = before | files
        return oid

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the id and the files of a revision."""
        history = self.commits.get(repo, {})
        oid = list(history)[-1] if revision == "main" and history else revision
        return (oid, history[oid]) if oid in history else None


@contextmanager
def serve_hub(monkeypatch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """Serve a hub on this machine for the block, with huggingface_hub set to it and to an empty cache."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._handle()

        def do_GET(self) -> None:
            self._handle()

        def do_POST(self) -> None:
            self._handle()

        def _handle(self) -> None:
            path = unquote(self.path.partition("?")[0])
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            hub.requests.append((self.command, path))
            parts = path.strip("/").split("/")
            if hub.down:
                return self._json(503, {"error": "down"})
            if path == "/api/repos/create":
                return self._create(json.loads(body))
            if path == "/api/validate-yaml":
                return self._json(200, {"errors": [], "warnings": []})
            if parts[:2] == ["api", "models"]:
                return self._api("/".join(parts[2:4]), parts[4:], body)
            if len(parts) > 4 and parts[2] == "resolve":
                return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            return self._json(404, {"error": "not found"})

        def _create(self, wanted: dict[str, str]) -> None:
            if not self._may():
                return self._json(401, {"error": "Invalid credentials"})
            repo = f"{wanted['organization']}/{wanted['name']}"
            if wanted.get("visibility") == "private" or wanted.get("private"):
                hub.private.add(repo)
            if repo in hub.commits:
                return self._json(409, {"url": f"{hub.address}/{repo}", "error": "exists"})
            hub.commits[repo] = {}
            return self._json(200, {"url": f"{hub.address}/{repo}", "name": repo})

        def _api(self, repo: str, rest: list[str], body: bytes) -> None:
            if repo not in hub.commits or (repo in hub.private and not self._may()):
                return self._json(401 if not self._may() else 404, {"error": "no"}, "RepoNotFound")
            if rest[:1] == ["preupload"]:
                files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for one in json.loads(body)["files"]]  # fmt: skip
                return self._json(200, {"files": files})
            if rest[:1] == ["commit"]:
                lines = [json.loads(line) for line in body.splitlines() if line]
                files = {one["value"]["path"]: base64.b64decode(one["value"]["content"])
                         for one in lines if one["key"] == "file"}  # fmt: skip
                oid = hub.commit(repo, files)
                return self._json(
                    200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.address}/{repo}/commit/{oid}"}
                )
            found = hub.find(repo, rest[1] if len(rest) > 1 else "main")
            if found is None:
                return self._json(404, {"error": "Invalid rev id"}, "RevisionNotFound")
            oid, files = found
            if rest[:1] == ["paths-info"]:
                wanted = _paths(body)
                return self._json(200, [_entry(name, files[name]) for name in files if name in wanted])
            if rest[:1] == ["tree"]:
                return self._json(200, [_entry(name, content) for name, content in files.items()])
            siblings = [{"rfilename": name} for name in files]
            return self._json(200, {"id": repo, "sha": oid, "siblings": siblings, "private": False, "tags": []})

        def _file(self, repo: str, revision: str, name: str) -> None:
            found = hub.find(repo, revision)
            if found is None or name not in found[1]:
                return self._json(404, {"error": "not found"}, "EntryNotFound")
            oid, files = found
            headers = {"X-Repo-Commit": oid, "ETag": f'"{_etag(files[name])}"'}
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                part = files[name][int(first) : int(last) + 1 if last else None]
                content_range = f"bytes {first}-{int(first) + len(part) - 1}/{len(files[name])}"
                return self._send(206, part, headers | {"Content-Range": content_range})
            return self._send(200, files[name], headers)

        def _may(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _json(self, status: int, content: object, code: str = "") -> None:
            self._send(status, json.dumps(content).encode(), {"X-Error-Code": code} if code else {})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    hub.address = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", f"{cache}/token")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)  # read from the environment at import
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", cache)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}


def _paths(body: bytes) -> list[str]:
    """Return the paths that a request for information names, as JSON or as a form."""
    if body.startswith(b"{"):
        return json.loads(body)["paths"]
    return parse_qs(body.decode()).get("paths", [])
