"""Sharing a model: the folder, its card, the upload to a stand-in of the hub, and loading it from there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import clep
from clep.errors import InputError
from clep.evaluate import evaluate
from clep.files import read_json, write_json
from clep.hub import HubName, local_model
from clep.models import DualEncoder
from clep.share import CardOptions, main, share, write_share
from tests.hub_server import TOKEN, Hub, serve_hub
from tests.test_pretrained import FakeEncoder, fake, saved

__all__ = ["fake"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("CLEP_CACHE", str(tmp_path / "cache"))
    with serve_hub(monkeypatch, str(tmp_path / "hub")) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder as `train.py` leaves it."""
    folder = tmp_path / "runs" / "cooking"
    saved(folder / "model", sentence_encoder=f"{tmp_path}/models/minilm")
    (folder / ".hydra").mkdir()
    write_json(
        folder / "metrics.json",
        {"train/loss": 2.0, "val/retrieval/t2v/r1": 11.256, "before/val/retrieval/t2v/r1": 1.0, "val/loss": 3.5},
    )
    write_json(
        folder / "coverage.json",
        {"data": {"ego4d": {"training moments": 4500}}, "retrieval": {"gallery": 900, "without features": 12}},
    )
    write_json(folder / "prompts.json", {"kinetics": ["a video of washing"]})
    settings = {
        "loss": {"_target_": "clep.losses.ClipLoss"},
        "data": {"batch_size": 256, "sources": {"ego4d": {"bank": "/secret/place/bank.h5"}}},
        "trainer": {"max_epochs": 5},
        "seed": 0,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "evaluate").mkdir()
    write_json(folder / "evaluate" / "metrics.json", {"egomcq/inter/accuracy": 61.5})
    write_json(folder / "evaluate" / "coverage.json", {"egomcq": {"questions": 39751}})
    return folder


def fields_of(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_folder_holds_what_loading_needs_and_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    options = CardOptions("cc-by-nc-4.0", "Ego4D's licence holds.", ["ego4d"], "A model of kitchens.")
    files = write_share(run, tmp_path / "out", "lab/cooking", options)
    assert sorted(files) == ["README.md", "config.json", "model.safetensors", "prompts.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)
    card = (tmp_path / "out" / "README.md").read_text()
    fields = fields_of(card)
    assert (fields["license"], fields["datasets"], fields["library_name"]) == ("cc-by-nc-4.0", ["ego4d"], "clep")
    for line in (
        "A model of kitchens.",
        'clep.load("lab/cooking")',
        "| `retrieval/t2v/r1` | 11.26 |",
        "| `egomcq/inter/accuracy` | 61.50 |",
        "| retrieval | gallery: 900, without features: 12 |",
        "| egomcq | questions: 39,751 |",
        "| data: ego4d | training moments: 4,500 |",
        "| `loss` | ClipLoss |",
        "| `data.batch_size` | 256 |",
        "| video features of | tiny |",
        "| sentence encoder | minilm |",
        "Ego4D's licence holds.",
    ):
        assert line in card
    assert "before" not in card
    assert "train/loss" not in card
    assert str(tmp_path) not in card
    assert "/secret" not in card
    assert read_json(tmp_path / "out" / "prompts.json") == {"kinetics": ["a video of washing"]}
    assert isinstance(clep.load(tmp_path / "out"), clep.pretrained.PretrainedModel)


def test_a_card_without_a_licence_says_so(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_share(run / "model", tmp_path / "out")
    assert "license" not in fields_of((tmp_path / "out" / "README.md").read_text())
    assert "license=NAME" in caplog.text


def test_a_model_goes_to_the_hub_and_comes_back(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    address = share(run, "lab/cooking", CardOptions("mit"))
    first = next(iter(hub.commits["lab/cooking"]))
    assert address == f"{hub.address}/lab/cooking/commit/{first}"
    assert sorted(hub.commits["lab/cooking"][first]) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "prompts.json",
    ]
    local, loaded = clep.load(run), clep.load("lab/cooking")
    texts = ["C washes a cup", "C opens the door"]
    torch.testing.assert_close(loaded.embed_text(texts), local.embed_text(texts), rtol=0, atol=0)
    # A later commit changes main, not the revision.
    model = DualEncoder.from_pretrained(run / "model")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    model.save_pretrained(run / "model")
    share(run, "lab/cooking", CardOptions("mit"))
    assert len(hub.commits["lab/cooking"]) == 2
    now, then = clep.load("hf://lab/cooking"), clep.load(f"hf://lab/cooking@{first}")
    torch.testing.assert_close(then.embed_text(texts), local.embed_text(texts), rtol=0, atol=0)
    torch.testing.assert_close(now.embed_text(texts), clep.load(run).embed_text(texts), rtol=0, atol=0)
    assert not np.allclose(now.embed_text(texts).numpy(), then.embed_text(texts).numpy())


def test_the_cache_serves_where_the_hub_cannot_be_reached(
    run: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_share(run, tmp_path / "out")
    oid = hub.commit("lab/cooking", {name: (tmp_path / "out" / name).read_bytes() for name in files})
    online = local_model("lab/cooking")
    assert online.name == oid
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert local_model("lab/cooking") == online
    assert local_model(f"hf://lab/cooking@{oid}") == online
    with pytest.raises(
        InputError, match=r"lab/other is not a path here, and the hub cannot be reached.*HF_HUB_OFFLINE"
    ):
        clep.load("lab/other")
    assert len(hub.requests) == asked


def test_only_the_files_of_a_model_are_fetched(run: Path, tmp_path: Path, hub: Hub) -> None:
    files = write_share(run, tmp_path / "out")
    content = {name: (tmp_path / "out" / name).read_bytes() for name in files}
    hub.commit("lab/cooking", content | {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"})
    assert sorted(path.name for path in local_model("lab/cooking").iterdir()) == sorted(files)


def test_a_config_of_the_hub_names_registered_classes_only(run: Path, tmp_path: Path, hub: Hub) -> None:
    files = write_share(run, tmp_path / "out")
    config = read_json(tmp_path / "out" / "config.json")
    config["model"]["video"]["_target_"] = "os.system"
    del config["config_digest"]
    write_json(tmp_path / "out" / "config.json", config)
    hub.commit("lab/bad", {name: (tmp_path / "out" / name).read_bytes() for name in files})
    with pytest.raises(InputError, match="os.system"):
        clep.load("lab/bad")
    hub.commit("lab/bert", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(InputError, match="config.json does not describe a clep model"):
        clep.load("lab/bert")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lab/none", "lab/none is not a path here, and the hub has no such model"),
        ("hf://lab/none", "hf://lab/none: the hub has no such model"),
        ("hf://lab/cooking@v9", "there is no revision 'v9'"),
        ("hf://cooking", "write hf://user/name"),
    ],
)
def test_what_is_not_in_the_hub_is_named(hub: Hub, name: str, message: str) -> None:
    hub.commit("lab/cooking", {"config.json": b"{}"})
    with pytest.raises(InputError, match=message):
        clep.load(name)


def test_a_hub_that_is_down_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.down = True
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(InputError, match=r"lab/cooking.*(cannot be reached|cannot be used)"):
        clep.load("hf://lab/cooking")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lab/cooking", HubName("lab/cooking")),
        ("lab/cooking@v1.0", HubName("lab/cooking", "v1.0")),
        ("hf://lab/cooking@abc", HubName("lab/cooking", "abc")),
        (Path("hf://lab/cooking"), HubName("lab/cooking")),
        ("runs/a/b", None),
        ("/runs/a", None),
        ("model.ckpt", None),
        ("../a", None),
    ],
)
def test_names_of_the_hub(name: str | Path, expected: HubName | None) -> None:
    assert HubName.parse(name) == expected


def test_a_folder_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab" / "cooking").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert HubName.parse("lab/cooking") is None
    assert local_model("lab/cooking") == Path("lab/cooking")


def test_the_command_writes_or_uploads(
    run: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    main([f"run={run}", f"to={tmp_path / 'out'}", "license=mit"])
    main([f"run={run}", "repo=lab/cooking", "dry_run=true"])
    assert (run / "share" / "README.md").exists()
    assert not hub.requests
    for words, message in (
        ([f"run={run}", "repo=lab/cooking"], "an upload needs a token of the hub"),
        ([f"run={run}"], "repo=user/name is needed"),
        (["repo=lab/cooking"], "run=VALUE is needed: a run's folder"),
        ([f"run={run}", "rep=lab/cooking"], "'repo'"),
        ([f"run={run}", "dry_run=maybe"], "dry_run=maybe must be true or false"),
        ([f"run={tmp_path / 'none'}", "dry_run=true"], "is not a trained model"),
    ):
        caplog.clear()
        assert main(words) == 1
        assert message in caplog.text
    assert not hub.requests
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    caplog.clear()
    assert main([f"run={run}", "repo=lab/cooking"]) == 1
    assert "the hub refuses this token" in caplog.text
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    main([f"run={run}", "repo=lab/cooking", "private=true", "license=mit"])
    assert "lab/cooking" in hub.private
    assert f"uploaded: {hub.address}/lab/cooking/commit/" in caplog.text


def test_a_model_of_the_hub_is_evaluated_into_a_folder_of_ones_own(run: Path, tmp_path: Path, hub: Hub) -> None:
    files = write_share(run, tmp_path / "out")
    hub.commit("lab/cooking", {name: (tmp_path / "out" / name).read_bytes() for name in files})
    with pytest.raises(InputError, match="lab/cooking.*out=FOLDER"):
        evaluate("lab/cooking", [])


def test_a_model_behind_a_url_is_loaded(run: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(run / "model"), "/lab/model", recursive=True)
    FakeEncoder.made = []
    texts = ["C washes a cup"]
    assert clep.load("memory://lab/model").embed_text(texts).equal(clep.load(run).embed_text(texts))
    store.store.clear()
