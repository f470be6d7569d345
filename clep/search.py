"""The search page: `clep-search model=RUN [bank=BANK] [videos=DIR] [key=value …]`."""

import logging
import os
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from clep.bank import FeatureBank
from clep.compute import Stopped, graceful_shutdown
from clep.config.check import check_call
from clep.config.mistakes import nearest_option
from clep.config.saved import run_folder, saved_settings
from clep.config.words import not_key_value, refuse_home_sign
from clep.errors import InputError
from clep.index.moment_index import APPROXIMATE_ABOVE
from clep.pretrained import load

if TYPE_CHECKING:
    from clep.view.search import SearchEngine

_log = logging.getLogger("clep.search")  # not __name__, which is __main__ for `python -m clep.search`

USAGE = """Search videos by sentences, on a page in the browser.

  clep-search model=RUN [bank=BANK] [videos=DIR] [narrations=FILE] [key=value …]
  clep-search model=KIND:WEIGHTS bank=BANK [videos=DIR] [key=value …]

model       a run's folder, a .ckpt, a folder with a saved model, or KIND:WEIGHTS of a published model (its bank
            holds rows of the joint space)
bank        the feature bank; default: that of the run
videos      a folder of video files, or several: 'videos=[A,B]'. The file of video ID is ID.mp4, or has another suffix
narrations  narrations.arrow or a table (csv, tsv, parquet, jsonl), shown near each hit; default: those of the run
window_s    seconds of a moment (default: as the run was trained, else {window_s:g})
stride_s    seconds from the start of one moment to the next (default {stride_s})
template    the text around a sentence when it is embedded, e.g. 'template=#C C {{}}' (default '{template}')
device      where the model computes, cpu or cuda; default: a GPU if there is one
allow       your own modules that the run may name: allow=[mine]
approximate_above   more moments than this are searched by faiss (default {approximate_above})
host, port  address of the page (default {host}:{port}, or the next free port). Another host than this machine needs
            the token that the printed link holds
open        open the page in a browser: true, false, or null: only if there is a screen (default)"""


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search page; see `USAGE`.

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
    names = [field.name for field in fields(SearchOptions)]
    refuse_home_sign(words)
    values: dict[str, object] = {}
    for index, word in enumerate(words):
        key, equals, text = word.partition("=")
        if not equals or word.startswith("-"):
            raise InputError(f"{not_key_value(words, index, names, 'model')} clep-search --help lists the options")
        if key not in names:
            raise InputError(f"{key}: clep.search has no option {key!r}. {nearest_option(key, names)}")
        try:
            # Only lists, numbers, true, false and null are YAML: a path or a sentence is taken as it is written.
            plain = key in ("model", "bank", "narrations", "template", "host")
            values[key] = text if plain else OmegaConf.select(OmegaConf.create(f"value: {text}"), "value")
        except (OmegaConfBaseException, YAMLError) as error:
            raise InputError(f"{key}={text} cannot be read: {str(error).splitlines()[0]}") from error
    if "model" not in values:
        raise InputError("model=RUN is needed: a run's folder, a .ckpt, a saved model, or KIND:WEIGHTS")
    plain_values = {key: list(one) if isinstance(one, ListConfig) else one for key, one in values.items()}
    check_call(SearchOptions, plain_values, "")
    return SearchOptions(**plain_values)  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the search page from the command line; prints an InputError without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("clep").setLevel(logging.INFO)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help", "help"} & set(words):
        defaults = {field.name: field.default for field in fields(SearchOptions)}
        defaults |= {"port": DEFAULT_PORT, "window_s": DEFAULT_WINDOW_S}
        sys.stdout.write(USAGE.format(**defaults) + "\n")
        return
    try:
        with graceful_shutdown():
            run_search(parse_options(words))
    except InputError as error:
        _log.error("error: %s", error)
        sys.exit(1)
    except (KeyboardInterrupt, Stopped):
        _log.info("the search page has ended")


if __name__ == "__main__":
    main()
