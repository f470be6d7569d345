"""The web server of the search page: its routes, who may ask, and the port that it listens on."""

import errno
import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clep.errors import InputError
from clep.view.search.engine import Moment, SearchEngine

PORTS_TRIED = 20
COOKIE = "clep_search"
_STATIC = Path(__file__).with_name("static")
_TYPES = {"search.css": "text/css", "search.js": "text/javascript", "icon.svg": "image/svg+xml"}
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

_log = logging.getLogger(__name__)


class Guard:
    """Lets in the user's own browser only, and adds headers that forbid the page everything it does not need.

    Without a token, the request must name this machine as its host, so that a page of another site whose name resolves
    to 127.0.0.1 (DNS rebinding) gets nothing. With one, it must carry it: `?token=` once, then a cookie. A request that
    another site's page makes in the user's browser is refused either way.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        answer = self._refusal(Request(scope))
        await (self.app if answer is None else answer)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET is answered", 405)
        site, mode = request.headers.get("sec-fetch-site", "none"), request.headers.get("sec-fetch-mode")
        if site not in ("none", "same-origin") and not (mode == "navigate" and request.url.path == "/"):
            return PlainTextResponse("this page answers requests of its own page only", 403)
        if self.token is not None:
            return self._without_token(request, self.token)
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in _LOCAL_NAMES:
            return PlainTextResponse("open this page as http://127.0.0.1", 403)
        return None

    def _without_token(self, request: Request, token: str) -> Response | None:
        given = request.query_params.get("token")
        if given is not None and secrets.compare_digest(given.encode(), token.encode()):
            url = request.url.remove_query_params("token")
            answer = RedirectResponse(f"{url.path}{'?' + url.query if url.query else ''}", 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        if secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), token.encode()):
            return None
        return PlainTextResponse("open the link that the terminal shows: it ends with ?token=…", 403)


def create_app(engine: SearchEngine, token: str | None = None) -> Starlette:
    """Return the web application.

    Args:
        engine: answers the questions.
        token: that requests must carry; None where only this machine can connect.
    """
    about = engine.about()

    def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _TYPES:
            raise HTTPException(404)
        return FileResponse(_STATIC / name, media_type=_TYPES[name], headers={"cache-control": "no-cache"})

    def search(asked: "Asked") -> Any:
        return engine.search(
            asked.every("q"), asked.moments("like"), asked.every("video"), asked.one("split"), asked.integer("top", 24)
        )

    def curve(asked: "Asked") -> Any:
        return engine.curve(asked.every("q"), asked.moments("like"), asked.one("of"))

    def moment(asked: "Asked") -> Any:
        return engine.moment(*asked.moment("at"))

    def scores(asked: "Asked") -> Any:
        return {"scores": engine.scores(asked.every("q"), *asked.moment("at"))}

    def strip(request: Request) -> Response:
        video, start_s, end_s = Asked(request.url.query).moment("at")
        content = engine.videos.strip(video, start_s, end_s)
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    def video(request: Request) -> Response:
        uid = Asked(request.url.query).one("id")
        return FileResponse(engine.videos.path(uid), media_type=engine.videos.playable(uid).media_type)

    def clip(request: Request) -> Response:
        asked = Asked(request.url.query)
        return FileResponse(engine.videos.clip(asked.one("id"), asked.seconds("from")), media_type="video/mp4")

    answers = {"search": search, "curve": curve, "moment": moment, "scores": scores, "about": lambda asked: about}
    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            *(Route(f"/api/{name}", _as_json(answer)) for name, answer in answers.items()),
            *(Route(f"/{files.__name__}", _or_reason(files)) for files in (strip, video, clip)),
        ],
        middleware=[Middleware(Guard, token=token)],
    )


class Asked:
    """The values of a query string.

    Raises:
        InputError: one is missing, or no number.
    """

    def __init__(self, query: str) -> None:
        self._values = parse_qs(query, keep_blank_values=True, max_num_fields=200)

    def every(self, name: str) -> list[str]:
        """All values of a key."""
        return self._values.get(name, [])

    def one(self, name: str) -> str:
        """The last value of a key, "" if it is missing."""
        return self._values.get(name, [""])[-1]

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        return round(self._number(name, self.one(name))) if self.one(name) else default

    def seconds(self, name: str) -> float:
        """A number of seconds, 0 or more."""
        return max(0.0, self._number(name, self.one(name)))

    def moment(self, name: str) -> Moment:
        """A moment, `video@start-end`."""
        found = self.moments(name)
        if not found:
            raise InputError(f"{name}=video@start-end is missing")
        return found[-1]

    def moments(self, name: str) -> list[Moment]:
        """All moments of a key."""
        found = []
        for value in self.every(name):
            video, _, span = value.rpartition("@")
            start, _, end = span.partition("-")
            found.append((video, self._number(name, start), self._number(name, end)))
        for video, start_s, end_s in found:
            if not 0 <= start_s <= end_s:
                raise InputError(f"{name}: {video[:100]}@{start_s:g}-{end_s:g} does not end after its start")
        return found

    def _number(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not -1e9 < value < 1e9:
            raise InputError(f"{name}={text[:40]!r} is not a number")
        return value


def _as_json(answer: Callable[[Asked], Any]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(answer(Asked(request.url.query)), headers={"cache-control": "no-store"})
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ValueError:  # too many fields
            return JSONResponse({"error": "the address cannot be read"}, 400)

    return endpoint


def _or_reason(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return answer(request)
        except InputError as error:
            return PlainTextResponse(str(error), 404)
        except ValueError:
            return PlainTextResponse("the address cannot be read", 400)

    return endpoint


def needs_token(host: str) -> bool:
    """Whether other machines can connect to this address."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def listen(host: str, port: int, next_free: bool = True) -> socket.socket:
    """Return a socket that listens, on the next free port if this one is in use.

    Args:
        host: address.
        port: the first to try; 0 for any.
        next_free: try the following ones too.

    Raises:
        InputError: the ports are in use, or the address is not one of this machine.
    """
    tried = range(port, min(port + PORTS_TRIED, 65536)) if next_free and port else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for one in tried:
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, one))
            found.listen(256)
        except OSError as error:
            found.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InputError(f"host={host} cannot be listened on ({error.strerror or error})") from error
            continue
        if one != port:
            _log.info("port %d is in use; using %d", port, one)
        return found
    shown = f"port={port} is" if len(tried) == 1 else f"the ports {tried[0]} to {tried[-1]} are"
    raise InputError(f"{shown} in use or not allowed; choose another with port=NUMBER")


def serve(app: Starlette, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off", server_header=False
    )
    uvicorn.Server(config).run(sockets=[listening])
