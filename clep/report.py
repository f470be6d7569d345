"""The report command: `python -m clep.report RUN… [videos=DIR] [out=FILE]`."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from clep.command_line import options_help, read_options, run_command, split_words
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

{options}"""
_OPTIONS = ("videos", "out")


def report(folders: Sequence[str | Path], videos: Sequence[str] | None = None, out: str | Path | None = None) -> Path:
    """Write the page of a run, of several runs, or of an ablation or sweep, and return its path.

    Args:
        folders: of runs, or one of an ablation or sweep.
        videos: folder of the videos, for frames of the moments (ID.mp4 and other suffixes); several: [A,B]. Default:
            those of the run's setting report.videos.
        out: path of the page; default: as above.

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


def _run(words: list[str]) -> None:
    folders = [word for word in words if not word.startswith("-") and ("=" not in word or Path(word).exists())]
    others = [word for word in words if word not in folders]
    for index, word in enumerate(words):
        if word.startswith("-"):
            split_words(words[index : index + 2], _OPTIONS)  # raises: "Did you mean videos=DIR?"
    for key, _, value in (word.partition("=") for word in others):
        if key in ("run", "runs", "ckpt", "folder") and value:
            raise InputError(f"a folder is given without {key}=: python -m clep.report {shlex.quote(value)}")
    log.info("%s", report(folders, **read_options(report, others, "clep.report", _OPTIONS)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report from the command line, see `run_command`."""
    return run_command(_run, lambda _: USAGE.format(options=options_help(report, _OPTIONS)), arguments)


if __name__ == "__main__":
    sys.exit(main())
