import pytest
import torch

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.extraction.coverage import read_coverage
from clep.preprocess import narrations
from clep.preprocess.narrations import Ego4DNarrations
from clep.text import Narrations

from .conftest import embed, write_ego4d


def job(folder, **options):
    narration_json, ego4d_json = folder / "narration.json", folder / "ego4d.json"
    options = {"narration_json": narration_json, "ego4d_json": ego4d_json, "text_encoder": "fake", **options}
    return Ego4DNarrations(output_folder=folder / "out", **options)


def run(folder, **options):
    return job(folder, **options).run()


def test_writes_narrations_and_the_embeddings_of_their_distinct_texts(tmp_path, encoder):
    write_ego4d(tmp_path)
    run(tmp_path)
    table = Narrations.open(tmp_path / "out" / "narrations.arrow")
    texts = FeatureBank.open(tmp_path / "out" / "texts.fake.h5")
    assert len(table) == 7
    assert texts.n_rows == len(table.texts) == 5
    assert texts.source == table.digest
    for row, text in enumerate(table.texts):
        assert texts.take([row])[0].tolist() == embed(text).tolist()


def test_coverage_counts_and_lists(tmp_path, encoder):
    write_ego4d(tmp_path)
    coverage = run(tmp_path)
    counts, lists = coverage["counts"], coverage["lists"]
    assert (counts["videos"], counts["narrations"], counts["distinct_texts"]) == (3, 7, 5)
    assert (counts["first_pass"], counts["second_pass"]) == (5, 2)
    # Of b: the fridge of pass 2 repeats that of pass 1. a is a test video, c is redacted.
    assert counts["training_moments"] == 3
    assert (counts["not_trained_on_split"], counts["not_trained_on_redacted"], counts["not_trained_on_duplicate"]) == (
        2,
        1,
        1,
    )
    assert lists["videos_redacted"] == ["c"]
    assert lists["split_em_test"] == ["a"]
    assert coverage["texts"]["counts"]["texts"] == 5
    assert read_coverage(tmp_path / "out" / "narrations.arrow")["lists"] == lists


def test_an_up_to_date_job_reads_nothing(tmp_path, encoder, monkeypatch):
    write_ego4d(tmp_path)
    run(tmp_path)
    encoder.encoded.clear()
    monkeypatch.setattr(narrations, "read_ego4d", None)
    again = run(tmp_path)
    assert again["up_to_date"]
    assert again["texts"]["up_to_date"]
    assert encoder.encoded == []


def test_changed_inputs_or_tags_are_read_again(tmp_path, encoder):
    narration_json, _ = write_ego4d(tmp_path)
    run(tmp_path)
    assert not run(tmp_path, tag_style="tutorial")["up_to_date"]
    assert "Camera wearer C sits" in list(Narrations.open(tmp_path / "out" / "narrations.arrow").texts)
    narration_json.write_text(narration_json.read_text().replace("sits", "rests"))
    again = run(tmp_path, tag_style="tutorial")
    assert not again["up_to_date"]
    assert not again["texts"]["up_to_date"]
    assert run(tmp_path, tag_style="tutorial", overwrite=True)["up_to_date"] is False


def test_a_table_that_cannot_be_read_is_made_again(tmp_path, encoder):
    write_ego4d(tmp_path)
    run(tmp_path)
    path = tmp_path / "out" / "narrations.arrow"
    path.write_bytes(path.read_bytes()[:2000])
    assert not run(tmp_path)["up_to_date"]
    assert len(Narrations.open(path)) == 7


def test_a_table_of_an_interrupted_run_counts_as_outdated(tmp_path, encoder, monkeypatch):
    narration_json, _ = write_ego4d(tmp_path)
    first = narration_json.read_text()
    run(tmp_path)
    narration_json.write_text(first.replace("sits", "rests"))

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(narrations, "_describe_passes", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    narration_json.write_text(first)
    run(tmp_path)
    texts = list(Narrations.open(tmp_path / "out" / "narrations.arrow").texts)
    assert "Camera wearer sits" in texts
    assert "Camera wearer rests" not in texts


def test_inputs_that_cannot_be_used_are_named(tmp_path, encoder):
    with pytest.raises(InputError, match=r"narration\.json does not exist"):
        run(tmp_path)
    narration_json, _ = write_ego4d(tmp_path)
    narration_json.write_text("{}")
    with pytest.raises(InputError, match=r"narration\.json holds no narration"):
        run(tmp_path)
    assert not (tmp_path / "out" / "narrations.arrow").exists()


def test_without_metadata_no_video_has_a_split(tmp_path, encoder):
    write_ego4d(tmp_path)
    coverage = run(tmp_path, ego4d_json=None)
    assert coverage["counts"]["not_trained_on_split"] == 0
    assert coverage["lists"]["videos_without_duration"] == ["a", "b", "c"]


def test_only_many_texts_on_a_cpu_take_long(tmp_path, encoder):
    write_ego4d(tmp_path)
    made = job(tmp_path, device="cpu")
    assert "5 distinct texts are to be encoded" in made.cost_warning(4, 0)
    assert made.cost_warning(5, 0) is None
    assert job(tmp_path, device="cpu", compute={"_target_": "clep.compute.Slurm"}).cost_warning(4, 0) is None
    assert job(tmp_path, device="cpu", compute={"_target_": "clep.compute.Local"}).cost_warning(4, 0) is not None
    made.run()
    assert made.cost_warning(4, 0) is None


def test_texts_encoded_by_tasks_make_the_same_bank(tmp_path, encoder):
    write_ego4d(tmp_path)
    run(tmp_path)
    rows = FeatureBank.open(tmp_path / "out" / "texts.fake.h5").video_rows("texts")
    again = run(tmp_path, compute={"_target_": "clep.compute.Local", "processes": 1}, chunk=2, overwrite=True)
    assert again["texts"]["up_to_date"] is False
    assert torch.equal(FeatureBank.open(tmp_path / "out" / "texts.fake.h5").video_rows("texts"), rows)
