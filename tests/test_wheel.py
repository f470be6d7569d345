"""The built wheel carries its configs: away from the checkout it lists its jobs and composes experiments."""

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from clep.files import read_json
from tests.own_parts import write_own_parts, write_pairs

ROOT = Path(__file__).parents[1]
COMPOSE = """
import runpy
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
import clep
from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
register_resolvers()
assert Path(clep.__file__).parent == config_folder().parent, config_folder()
with initialize_config_dir(str(config_folder()), version_base=None):
    for name in sys.argv[1:]:
        cfg = compose("train", [f"experiment={name}", "paths.run=somewhere"])
        OmegaConf.to_container(cfg, resolve=True)
        print("composed", name)
sys.argv = ["clep.preprocess", "--help"]
runpy.run_module("clep.preprocess", run_name="__main__")
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


@pytest.mark.slow
def test_a_wheel_that_is_built_from_the_source_distribution_is_the_same(installed: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation"]
    subprocess.run([*build, "--sdist", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (archive,) = tmp_path.glob("clep-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    subprocess.run([*build, "--wheel", "--outdir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("clep-*.whl")
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("clep/")}
    assert "clep/conf/train.yaml" in found
    assert found == {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()} & found
    assert len(found) == sum(path.is_file() for path in (installed / "clep").rglob("*"))


def away(installed: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *words], cwd=installed.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_configs_alone(installed: Path) -> None:
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"clep"}
    ours, theirs = (
        {str(path.relative_to(conf)): path.read_bytes() for path in conf.rglob("*.yaml")}
        for conf in (ROOT / "conf", installed / "clep" / "conf")
    )
    assert theirs == ours


def test_jobs_are_listed_and_experiments_compose(installed: Path) -> None:
    """Two experiments: test_configs composes all, and the wheel has the same files."""
    shown = away(installed, "-c", COMPOSE, "demo", "ava_lfb")
    assert "ego4d_narrations" in shown
    assert re.findall(r"^composed (\w+)$", shown, re.M) == ["demo", "ava_lfb"]


STOP = """
import pytorch_lightning as pl

class StopAfter(pl.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_batch_end(self, trainer, *arguments):
        if trainer.current_epoch == self.epochs:
            raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def python(installed: Path) -> Path:
    """The interpreter of an environment that has the wheel, and the tested versions of what it needs."""
    folder = installed.parent / "venv"
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    (site / "tested.pth").write_text(f"{installed}\n{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "python"


@pytest.mark.slow
def test_parts_of_ones_own_beside_the_installed_package(python: Path, installed: Path, tmp_path: Path) -> None:
    """docs/own_parts.md from a folder of the user's: trained, resumed, evaluated, ablated and loaded."""
    write_own_parts(tmp_path)
    write_pairs(tmp_path)
    (tmp_path / "stop.py").write_text(STOP)
    own = ("--config-dir", "my_conf")
    small = ("data.batch_size=24", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=none", "callbacks=last")

    def call(*words: str, status: int = 0, run_id: str = "whole") -> str:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [python, *words], cwd=tmp_path, env={**kept, "CLEP_RUN_ID": run_id}, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert Path(call("-c", "import clep; print(clep.__file__)").strip()) == installed / "clep" / "__init__.py"
    train = ("-m", "clep.train", *own, "experiment=pairs", *small, "final_weights=last")
    call(*train)
    call(*train, "+callbacks.stop={_target_: stop.StopAfter, epochs: 1}", run_id="stopped", status=130)
    call(*train, run_id="stopped")
    runs = tmp_path / "runs" / "pairs"
    metrics = read_json(runs / "whole" / "metrics.json")
    assert read_json(runs / "stopped" / "metrics.json")["mine/spread"] == metrics["mine/spread"]

    evaluate = ("-m", "clep.evaluate", f"ckpt={runs / 'whole'}", "device=cpu")
    assert f"add allow=[mine] --config-dir {tmp_path / 'my_conf'}" in call(*evaluate, status=1)
    call(*evaluate, "allow=[mine]", *own)
    found = read_json(runs / "whole" / "evaluate" / "metrics.json")
    assert found["mine/spread"] == pytest.approx(metrics["mine/spread"], abs=1e-4)

    words = ("experiment=pairs", *small, "trainer.max_epochs=1", "loss._target_=mine.VideoToText", "out=ablation")
    call("-m", "clep.ablate", *own, *words, "metrics=[mine/spread]")
    assert read_json(tmp_path / "ablation" / "table.json")["rows"][0]["metrics"]["mine/spread"]["mean"] > 0
    load = f"import clep; print(type(clep.load({str(runs / 'whole')!r}, 'cpu', allow=['mine.']).encoder).__name__)"
    assert call("-c", load).strip() == "ShiftedEncoder"


CALL_ALL = """
import contextlib, importlib, io, sys
for word in sys.argv[1:]:
    name, target = word.split("=")
    module, function = target.split(":")
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)()
    print(name, "=" in shown.getvalue())
"""


def console_commands(installed: Path) -> list[str]:
    """Return `name=module:function` of each command of the wheel."""
    (metadata,) = installed.glob("clep-*.dist-info/entry_points.txt")
    return [line.replace(" = ", "=") for line in metadata.read_text().splitlines() if "clep.commands:" in line]


def test_the_wheel_declares_console_commands_and_types(installed: Path) -> None:
    words = console_commands(installed)
    names = {word.partition("=")[0] for word in words}
    assert {"clep-ablate", "clep-evaluate", "clep-leaderboard", "clep-preprocess", "clep-search", "clep-train"} <= names
    for word in words:
        module, _, function = word.partition("=")[2].partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert (installed / "clep" / "py.typed").is_file()
    assert (installed / "clep" / "view" / "search" / "static" / "index.html").is_file()


@pytest.mark.slow
def test_every_console_command_shows_its_help(installed: Path) -> None:
    words = console_commands(installed)
    names = sorted(word.partition("=")[0] for word in words)
    shown = away(installed, "-c", CALL_ALL, *words)
    assert sorted(shown.split("\n"))[1:] == [f"{name} True" for name in names]
