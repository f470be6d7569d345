"""The built wheel carries its configs: away from the checkout it lists its jobs and composes every experiment."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPOSE_ALL = """
from pathlib import Path
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
import clep
from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
register_resolvers()
assert Path(clep.__file__).parent == config_folder().parent, config_folder()
with initialize_config_dir(str(config_folder()), version_base=None):
    for path in sorted((config_folder() / "experiment").glob("*.yaml")):
        cfg = compose("train", [f"experiment={path.stem}", "paths.run=somewhere"])
        OmegaConf.to_container(cfg, resolve=True)
        print("composed", path.stem)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it, as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("clep-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def away(installed: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *words], cwd=installed.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_configs_alone(installed: Path) -> None:
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"clep"}
    assert (installed / "clep" / "conf" / "train.yaml").is_file()


def test_jobs_are_listed(installed: Path) -> None:
    assert "ego4d_narrations" in away(installed, "-m", "clep.preprocess", "--help")


def test_every_experiment_composes(installed: Path) -> None:
    composed = away(installed, "-c", COMPOSE_ALL)
    assert composed.count("composed") == len(list((ROOT / "conf" / "experiment").glob("*.yaml")))
