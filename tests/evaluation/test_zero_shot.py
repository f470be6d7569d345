import json
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.checksums import read_checked_json
from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation import EgoCharadesZeroShot, KineticsZeroShot
from tests.evaluation.tiny_clips import (
    WORDS,
    by_hand,
    model_for,
    score_by_hand,
    unit,
    write_ego_charades,
    write_kinetics,
    write_prompts,
)


def kinetics(folder: Path) -> KineticsZeroShot:
    return KineticsZeroShot(str(folder), WORDS)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    model = model_for()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        first, second = kinetics(tmp_path).run(model), kinetics(tmp_path).run(model)
        assert first == second  # no dropout, whatever the mode was
        assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model.encode_text({"text": torch.ones(2, 8)}).sum().backward()  # gradients are on again


def test_a_frozen_tower_stays_frozen(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    model = model_for().train()
    model.text.eval()
    kinetics(tmp_path).run(model)
    assert model.video.training
    assert not any(module.training for module in model.text.modules())


def test_the_mode_comes_back_after_an_error_too(tmp_path: Path) -> None:
    model = model_for()
    model.train()
    with pytest.raises(InputError):
        kinetics(tmp_path).run(model)
    assert model.training


def test_a_bank_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    model = model_for(metadata={"bank_encoder": "omnivore", "sentence_encoder": WORDS})
    with pytest.raises(InputError, match="'omnivore'.*'tiny'"):
        kinetics(tmp_path).run(model)


def test_prompts_of_another_sentence_encoder_are_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    model = model_for(metadata={"bank_encoder": "tiny", "sentence_encoder": "all-mpnet-base-v2"})
    with pytest.raises(InputError, match=r"'all-mpnet-base-v2'.*'all-tiny-v1'.*text_encoder="):
        kinetics(tmp_path).run(model)


def test_a_model_that_does_not_remember_is_not_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    assert kinetics(tmp_path).run(model_for(metadata={})) == kinetics(tmp_path).run(model_for())


@pytest.mark.parametrize("name", ["clips.h5", "features.h5", f"prompts.{WORDS}.h5"])
def test_files_that_are_missing_or_damaged_are_named(tmp_path: Path, name: str) -> None:
    write_kinetics(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        kinetics(tmp_path).run(model_for())
    path.unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        kinetics(tmp_path).run(model_for())


def test_missing_classes_are_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    with h5py.File(tmp_path / "clips.h5", "a") as file:
        del file["class/name"]
        file.attrs["version"] = 2  # without a checksum of its table
        file.create_dataset("class/name", data=np.array([], dtype="S1"))
    with pytest.raises(InputError, match="no classes"):
        kinetics(tmp_path).run(model_for())


def test_prompts_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    tiny = write_kinetics(tmp_path)
    write_prompts(tmp_path, {"prompt": tiny.prompts["prompt"][:-1]})
    with pytest.raises(InputError, match=r"12 prompts of set 'prompt'.*7 classes.*clep\.preprocess kinetics"):
        kinetics(tmp_path).run(model_for())


def test_prompts_of_other_classes_are_refused(tmp_path: Path) -> None:
    """As many classes in another order would be scored against the wrong labels."""
    write_kinetics(tmp_path)
    listing = read_checked_json(tmp_path / "prompts.json")
    listing["classes"] = listing["classes"][::-1]
    (tmp_path / "prompts.json").write_text(json.dumps(listing))
    with pytest.raises(InputError, match=r"prompts\.json.*other classes.*clips\.h5"):
        kinetics(tmp_path).run(model_for())


def test_a_listing_that_is_not_one_is_named(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    for content in ("[]", "{}", "{"):
        (tmp_path / "prompts.json").write_text(content)
        for use in (lambda: kinetics(tmp_path).prompts, lambda: kinetics(tmp_path).run(model_for())):
            with pytest.raises(InputError, match=r"prompts\.json"):
                use()


def test_clips_of_which_none_has_features_are_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    write_kinetics(tmp_path / "other")
    clips = LabelledClips.open(tmp_path / "clips.h5")
    replace(clips, ids=[f"another{i}" for i in range(40)]).write(tmp_path / "clips.h5")
    with pytest.raises(InputError, match=r"features\.h5 has features for none of the 40 clips"):
        kinetics(tmp_path).run(model_for())


def test_prompts_are_the_sentences_by_set_and_class(tmp_path: Path) -> None:
    write_ego_charades(tmp_path)
    prompts = EgoCharadesZeroShot(str(tmp_path), WORDS).prompts
    assert list(prompts) == ["label", "ego_prompt", "exo_prompt"]
    assert prompts["label"][1] == ["label 0 class 1"]


def test_templates_are_averaged_over_the_embedding_not_over_classes(tmp_path: Path) -> None:
    """A class's vector must not depend on which other classes there are, and has unit length."""
    tiny, model = write_kinetics(tmp_path, templates=3), model_for().eval()
    evaluator = kinetics(tmp_path)
    with torch.no_grad():
        found = evaluator._classifier(model, evaluator._open()[2], "prompt").numpy()
    for vector, templates in zip(found, tiny.prompts["prompt"], strict=True):
        expected = unit(np.mean([unit(by_hand(model.text, template)) for template in templates], axis=0))
        assert vector == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_score_matrices_can_be_had(tmp_path: Path, training: bool) -> None:
    """One line a clip that has features, one column a class, without dropout in whatever mode the model is."""
    tiny, model = write_kinetics(tmp_path), model_for().train(training)
    clips, kept, scores = kinetics(tmp_path).scores(model)
    assert clips.ids == tiny.clips.ids
    assert [clips.ids[index] for index in kept] == [name for name in tiny.clips.ids if name in tiny.rows]
    expected = [
        [score_by_hand(model, tiny.rows[clips.ids[index]], templates) for templates in tiny.prompts["prompt"]]
        for index in kept
    ]
    assert scores["prompt"].numpy() == pytest.approx(np.array(expected), abs=1e-5)
    assert not scores["prompt"].requires_grad
    assert model.training == training


@pytest.mark.parametrize("max_rows", [3, 16])
def test_the_windows_of_the_model_are_used(tmp_path: Path, max_rows: int) -> None:
    """A model trained on sequences gets them: evenly spread rows, padding masked, never a random choice."""
    tiny = write_kinetics(tmp_path)
    window = {"align": "centre", "pool": "rows", "max_rows": max_rows, "sample": "random"}
    model = model_for(metadata={"window": window})
    seen = []
    encode = model.encode_video
    model.encode_video = lambda batch: (seen.append(batch), encode(batch))[1]
    metrics = kinetics(tmp_path).run(model)
    assert metrics == kinetics(tmp_path).run(model)
    kept = [name for name in tiny.clips.ids if name in tiny.rows]
    batch = seen[0]
    places = min(max(len(tiny.rows[name]) for name in kept), max_rows)
    assert batch["video"].shape == (len(kept), places, 12)
    assert batch["video_mask"].sum(1).tolist() == [min(len(tiny.rows[name]), max_rows) for name in kept]
    torch.testing.assert_close(seen[0]["video"], seen[1]["video"])
    if max_rows == 16:
        model.metadata = {}
        assert metrics == kinetics(tmp_path).run(model)


def test_files_are_opened_once_and_do_not_travel(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    evaluator, model = kinetics(tmp_path), model_for()
    metrics = evaluator.run(model)
    opened = evaluator._open()
    assert evaluator._open() is opened
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy._opened is None
    assert copy.run(model) == metrics
