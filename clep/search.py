"""The search page: `clep-search model=RUN [bank=BANK] [videos=DIR] [key=value …]`."""

import logging
import os
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from clep.bank import FeatureBank
from clep.command_line import options_help, read_options, run_command
from clep.compute import Stopped
from clep.config.saved import run_folder, saved_settings
from clep.errors import InputError
from clep.index.moment_index import APPROXIMATE_ABOVE
from clep.pretrained import load

if TYPE_CHECKING:
    from clep.view.search import SearchEngine

_log = logging.getLogger("clep.search")  # not __name__, which is __main__ for `python -m clep.search`

USAGE = """Search videos by sentences, on a page in the browser.

  clep-search model=RUN [bank=BANK] [videos=DIR] [narrations=FILE] [key=value …]
  clep-search model=KIND:WEIGHTS bank=BANK [videos=DIR] [key=value …]

{options}"""


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search page.

    Attributes:
        model: a run's folder, a .ckpt, a folder with a saved model, or KIND:WEIGHTS of a published model (its bank
            holds rows of the joint space).
        bank: the feature bank; default: that of the run.
        videos: a folder of video files, or several: 'videos=[A,B]'. The file of video ID is ID.mp4, or has another
            suffix.
        narrations: narrations.arrow or a table (csv, tsv, parquet, jsonl), shown near each hit; default: those of the
            run.
        window_s: seconds of a moment; if left out, those that the run was trained with, or else the default.
        stride_s: seconds from the start of one moment to the next.
        template: the text around a sentence when it is embedded, e.g. 'template=#C C {}'.
        device: where the model computes, cpu or cuda; default: a GPU if there is one.
        allow: your own modules that the run may name: allow=[mine].
        approximate_above: more moments than this are searched by faiss.
        host: address of the page. Another host than this machine needs the token that the printed link holds.
        port: port of the page; if left out, the default or the next free port.
        open: open the page in a browser: true or false; default: only if there is a screen.

    Raises:
        InputError: an option is out of range.
    """

    model: str
    bank: str | None = None
    videos: str | list[str] | None = None
    narrations: str | None = None
    window_s: float | int | None = None
    stride_s: float | int = 1.0
    template: str = "{}"
    device: str | None = None
    allow: str | list[str] = ""
    approximate_above: int | None = APPROXIMATE_ABOVE
    host: str = "127.0.0.1"
    port: int | None = None
    open: bool | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port < 65536:
            raise InputError(f"port={self.port} must be from 0 to 65535")


DEFAULT_PORT = 8765
DEFAULT_WINDOW_S = 4.0


class Trained(NamedTuple):
    """What a run was trained on, as its `config.yaml` says; None where it does not."""

    bank: str | None = None
    narrations: str | None = None
    val_fraction: float | None = None
    window_s: float | int | None = None


def search_engine(options: SearchOptions) -> "SearchEngine":
    """Load model, bank, index and narrations, and list the videos.

    Raises:
        InputError: something cannot be read, does not fit together, or is not installed.
    """
    from clep.datasets.narrations_near import NarrationsNear
    from clep.view.search import SearchEngine, VideoFiles

    model = load(options.model, options.device, _listed(options.allow))
    trained = _of_the_run(Path(options.model))
    bank_path = options.bank or trained.bank
    if bank_path is None:
        raise InputError("bank=BANK is needed: the model does not say which bank it was trained on")
    bank = FeatureBank.open(bank_path)
    narrations = options.narrations
    if narrations is None and trained.narrations is not None and Path(trained.narrations).is_file():
        narrations = trained.narrations
    near = None if narrations is None else NarrationsNear(narrations, trained.val_fraction)
    videos = VideoFiles(_listed(options.videos or []))
    started = perf_counter()
    window_s = options.window_s or trained.window_s or DEFAULT_WINDOW_S
    index = model.index(bank, window_s, options.stride_s, options.approximate_above)
    how = "exact search" if index.approximate is None else f"recall@10 {index.recall:.3f} of exact search"
    _log.info("%s moments of %s videos, %s, %.1f s", f"{len(index):,}", f"{len(bank):,}", how, perf_counter() - started)
    engine = SearchEngine(model, bank, index, videos, near, options.template)
    found = engine.about()["files"]
    if options.videos is not None and found < len(bank):
        _log.warning("%d of the bank's %d videos have no file in %s", len(bank) - found, len(bank), options.videos)
    engine.search(["opens the door"], top=1)  # loads what the first search would wait for
    return engine


def run_search(options: SearchOptions) -> None:
    """Serve the search page until Ctrl-C.

    Raises:
        InputError: see `search_engine`; or no port is free.
    """
    try:
        from clep.view.search import server
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise InputError("the search page needs starlette and uvicorn: pip install 'clep[search]'") from error
    token = secrets.token_urlsafe(16) if server.needs_token(options.host) else None
    wanted = DEFAULT_PORT if options.port is None else options.port
    listening = server.listen(options.host, wanted, next_free=options.port is None)
    with listening:
        engine = search_engine(options)
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{host}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
        _log.info("search page: %s  (Ctrl-C ends it)", url)
        if options.open or (options.open is None and _has_screen()):
            webbrowser.open(url)
        try:
            server.serve(server.create_app(engine, token), listening)
        finally:
            engine.videos.close()


def _of_the_run(model: Path) -> Trained:
    """Read the settings of a run's first source of moments; they are data, and only files are read by them."""
    try:
        data = saved_settings(run_folder(model)).get("data") if model.exists() else None
    except InputError:
        return Trained()
    sources = data.get("sources") if isinstance(data, dict) else None
    source = next(iter(sources.values()), None) if isinstance(sources, dict) else None
    if not isinstance(source, dict):
        return Trained()
    texts = {key: source[key] for key in ("bank", "narrations") if isinstance(source.get(key), str)}
    fraction, offset_s = (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6 else None
        for value in (source.get("val_fraction"), source.get("offset_s"))
    )
    window_s = 2 * offset_s if offset_s is not None and source.get("span") == "fixed" else None
    return Trained(**texts, val_fraction=fraction if fraction is None or fraction <= 1 else None, window_s=window_s)


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value)


def _has_screen() -> bool:
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def parse_options(words: Sequence[str]) -> SearchOptions:
    """Read `key=value` words.

    Raises:
        InputError: a word is no option, or a value is of another type.
    """
    return SearchOptions(**read_options(SearchOptions, words, "clep.search", positional="model"))


def _run(words: list[str]) -> None:
    try:
        run_search(parse_options(words))
    except (KeyboardInterrupt, Stopped):
        _log.info("the search page has ended")


def _usage(_: list[str]) -> str:
    return USAGE.format(options=options_help(SearchOptions, port=DEFAULT_PORT, window_s=DEFAULT_WINDOW_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the search page from the command line, see `run_command`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("clep").setLevel(logging.INFO)
    return run_command(_run, _usage, arguments)


if __name__ == "__main__":
    sys.exit(main())
