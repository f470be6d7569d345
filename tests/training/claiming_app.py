"""A stand-in for `clep.train`: Hydra claims its folder, the app notes its process there and stays until it may end."""

import functools
import os
import sys
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from clep.config.resolvers import register_resolvers
from clep.training import run_folder
from clep.training.run_folder import locked_run_folder

CONFIG = {
    "runs": "???",
    "defaults": ["_self_"],
    "hydra": {
        "callbacks": {"claim": {"_target_": "clep.training.ClaimRunFolder"}},
        "run": {"dir": "${runs}/${clep.run_id:}"},
        "sweep": {"dir": "${runs}/sweep-${clep.run_id:}", "subdir": "${hydra.job.num}"},
        "job": {"chdir": False},
    },
}


def start(index: int, runs: Path, environment: dict[str, str], at: float, until: str, wait_s: float) -> None:
    """Start the app in this process at a given time; it lives until the file `until` exists below `runs`.

    It waits for `wait_s` seconds for a folder that another holds.
    """
    run_folder.claim = functools.partial(run_folder.claim, wait_s=wait_s)
    folder = runs.parent / "conf"
    os.environ |= environment
    register_resolvers()

    @hydra.main(version_base=None, config_path=str(folder), config_name="app")
    def app(cfg: DictConfig) -> None:
        run = Path(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir)
        with locked_run_folder(run):
            (run / f"process-{os.getpid()}").touch()
            while not (runs / until).exists():
                time.sleep(0.02)

    sys.stderr = (runs / f"errors-{index}").open("w")
    sys.argv = ["app", f"runs={runs}", "hydra/job_logging=none", "hydra/hydra_logging=none"]
    time.sleep(max(0.0, at - time.time()))
    app()


def write_config(runs: Path) -> None:
    """Write the app's config beside `runs`."""
    runs.mkdir(parents=True, exist_ok=True)
    (runs.parent / "conf").mkdir(exist_ok=True)
    OmegaConf.save(CONFIG, runs.parent / "conf" / "app.yaml")
