"""The report command: `python -m clep.report RUN… [videos=DIR] [out=FILE]`."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.view.report.compare_page import write_comparison
from clep.view.report.end_of_run import REPORT
from clep.view.report.grid_page import is_grid, write_grid_page
from clep.view.report.record import read_run
from clep.view.report.run_page import write_run_page

log = logging.getLogger(__name__)

USAGE = """Write the report of a run, a comparison of runs, or the page of an ablation or a sweep, as one HTML file.

  python -m clep.report RUN [videos=DIR] [out=FILE]       a run's folder; default: report.html in it
  python -m clep.report RUN RUN… [out=FILE]               runs compared with the first; default: comparison.html
  python -m clep.report FOLDER [out=FILE]                 the folder of an ablation or of a sweep

videos     folder of the videos, for frames of the moments (ID.mp4 and other suffixes); several: videos=[A,B].
           Default: those of the run's setting report.videos"""


def report(folders: Sequence[str | Path], videos: Sequence[str] | None = None, out: str | Path | None = None) -> Path:
    """Write the page of a run, of several runs, or of an ablation or sweep, and return its path.

    Args:
        folders: of runs, or one of an ablation or sweep.
        videos: folders of videos; None for those of the run's settings.
        out: path of the page; None for the usual one.

    Raises:
        InputError: a folder is missing, is not that of a run that ended, or a file in it is damaged.
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; give the folder of a run, an ablation or a sweep")
    if not paths:
        raise InputError("which run? python -m clep.report RUN, with the folder of a run, an ablation or a sweep")
    if len(paths) > 1:
        return write_comparison([read_run(path) for path in paths], out or "comparison.html")
    if is_grid(paths[0]):
        return write_grid_page(paths[0], out)
    run = read_run(paths[0])
    if videos is None:
        known = (run.settings.get("report") or {}).get("videos") or []
        videos = [known] if isinstance(known, str) else [str(one) for one in known]
    return write_run_page(run, out or paths[0] / REPORT, videos)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a report from the command line; prints an InputError without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help", "help"} & set(words):
        sys.stdout.write(USAGE + "\n")
        return
    folders, videos, out = [], None, None
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-") or (equals and key not in ("videos", "out") and not Path(word).exists()):
            run = shlex.quote(value) if value else "RUN"
            log.error("error: %r is not an option: python -m clep.report %s [videos=DIR] [out=FILE]", word, run)
            sys.exit(1)
        if word.startswith("videos="):
            videos = word.removeprefix("videos=").strip("[]").split(",")
        elif word.startswith("out="):
            out = word.removeprefix("out=")
        else:
            folders.append(word)
    try:
        for word in folders:
            key, is_option, _ = word.partition("=")
            if is_option and key.isidentifier() and not Path(word).exists():
                raise InputError(f"there is no option {key!r}. {did_you_mean(key, ['videos', 'out'])}")
        log.info("%s", report(folders, videos, out))
    except InputError as error:
        log.error("error: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
