"""Writer of the report at the end of a run, chosen in `conf/train.yaml`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPORT = "report.html"


class RunReport:
    """Writes `report.html` into the folder of a run, and its figures to TensorBoard and W&B.

    Args:
        videos: a folder, or several, in which the videos of the gallery are looked up for frames; None for no frames.
    """

    def __init__(self, videos: str | list[str] | None = None) -> None:
        self.videos = [videos] if isinstance(videos, str) else list(videos or [])

    def write(self, folder: str | Path, loggers: Sequence[Any] = ()) -> Path:
        """Write the report of the run in `folder` and return its path.

        Args:
            folder: of a run that wrote its metrics.
            loggers: of Lightning, which get the figures.

        Raises:
            InputError: a file of the run is missing or damaged.
        """
        from clep.view.report.loggers import log_figures
        from clep.view.report.record import read_run
        from clep.view.report.run_page import write_run_page

        run = read_run(folder)
        page = write_run_page(run, Path(folder) / REPORT, self.videos)
        log_figures(run, loggers, self.videos)
        return page
