"""A small HTTP server for tests: files in memory with ETags, with or without ranges, that can break off or refuse."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server does, and what it was asked.

    Attributes:
        files: content by path, "/bank.h5".
        ranges: whether it answers range requests.
    sizes: whether it says how long files are.
        status: answer with this status instead, by path.
        breaks: bodies still to be cut, each after this many bytes.
        requests: method, path and Range header of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    sizes: bool = True
    status: dict[str, int] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    def sent(self, path: str) -> int:
        """Return how many GET requests there were for a path."""
        return sum(one[:2] == ("GET", path) for one in self.requests)


@contextmanager
def serve(server: FileServer) -> Iterator[FileServer]:
    """Serve on a free port of this machine for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range")
            server.requests.append((self.command, path, wanted))
            content = server.files.get(path)
            status = server.status.get(path) or (404 if content is None else 200)
            if status != 200 or content is None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = 0, len(content) - 1
            if wanted and server.ranges:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(end or last), last)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            part = content[first : last + 1]
            if server.sizes:
                self.send_header("Content-Length", str(len(part)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            self.send_header("Content-Type", "text/html" if path.endswith("/") else "application/octet-stream")
            self.end_headers()
            if not body:
                return
            if server.breaks:
                self.wfile.write(part[: server.breaks.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.address = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
