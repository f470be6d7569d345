import shutil
from pathlib import Path

import pytest

import clep.config.folder
from clep.config.folder import config_folder
from clep.errors import InputError


def test_the_checkout_has_the_configs_beside_the_package() -> None:
    folder = config_folder()
    assert folder.is_absolute()
    assert folder.name == "conf"
    assert {"train.yaml", "preprocess.yaml", "experiment", "model", "paths"} <= {path.name for path in folder.iterdir()}


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the module believe that it lies in another package folder."""
    package = tmp_path / "site-packages" / "clep"
    package.mkdir(parents=True)
    monkeypatch.setattr(clep.config.folder, "__file__", str(package / "config" / "folder.py"))
    return package


def test_an_installed_package_carries_them_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(tmp_path, monkeypatch)
    inside = package / "conf"
    shutil.copytree(Path(__file__).parents[2] / "conf", inside)
    (package.parent / "conf").mkdir()  # another package's folder beside it is not taken for ours
    (package.parent / "conf" / "conf.py").write_text("")
    assert config_folder() == inside


def test_a_broken_installation_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(tmp_path, monkeypatch)
    (package.parent / "conf").mkdir()
    with pytest.raises(InputError, match=r"clep/conf nor in .*install clep again"):
        config_folder()
