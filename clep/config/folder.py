"""Where the Hydra configs lie: `conf/` beside the package in a checkout, inside the package once it is installed."""

from pathlib import Path

from clep.errors import InputError


def config_folder() -> Path:
    """Return the absolute path of the folder that holds `train.yaml` and its groups.

    Raises:
        InputError: neither folder exists, so the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file() or (folder / "preprocess.yaml").is_file():
            return folder
    raise InputError(
        f"the configs of clep are neither in {package / 'conf'} nor in {package.parent / 'conf'}; install clep again"
    )
