"""The ablation command: `python -m clep.ablate [ablation=NAME] [key=value[,value…] …] [out=DIR]`."""

import logging
import sys
from collections.abc import Sequence

from rich.console import Console

from clep.ablation import ablate
from clep.compute import Stopped, graceful_shutdown
from clep.config.folder import config_folder
from clep.errors import InputError

log = logging.getLogger(__name__)

USAGE = """Train a grid of settings over seeds, a process a run, and write what each buys and costs.

  python -m clep.ablate experiment=demo_long_term operator=none,avg,max,nl seed=0,1,2 out=DIR
  python -m clep.ablate ablation=NAME [key=value[,value…] …]

key=a,b    settings of train.py; those with several values, in Hydra's grammar, are swept
seed=0,1   the runs of a row; the table gives their mean and sample standard deviation
ablation   {names}, or a file like those: common settings, and named variants, one a row
metrics    [a,b]: names or patterns (zeroshot/*/top1) of metrics.json; default: all that evaluators measure
out        where the runs go; the same command again does only what is missing. Default: runs/<ablation>
table      where table.md, table.json and table.png go, without suffix; default: <out>/table
processes  runs at once; the default is 1, and each then has all cores"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an ablation; return 0, 1 for bad input or a run that failed, or 128 + signal after Ctrl-C or SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not words or {"-h", "--help", "help"} & set(words):
        names = sorted(path.stem for path in (config_folder() / "ablation").glob("*.yaml"))
        sys.stdout.write(USAGE.format(names=", ".join(names)) + "\n")
        return 0
    try:
        with graceful_shutdown():
            data = ablate(words, Console())
    except InputError as error:
        log.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; the same command again continues")
        return 130
    except Stopped as stopped:
        log.error("stopped by signal %d; the same command again continues", stopped.signal)
        return 128 + stopped.signal
    return int(any(cell["failed"] for cell in data["cells"]))


if __name__ == "__main__":
    sys.exit(main())
