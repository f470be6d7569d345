"""Reports as single HTML files: of a run, of several runs compared, of an ablation or a sweep."""

from clep.view.report.end_of_run import RunReport

__all__ = ["RunReport"]
