import pytest
import torch

from clep.bank import Clock, FeatureBank
from clep.errors import InputError
from clep.extraction.features import expected_rows
from clep.files import read_json
from clep.preprocess.ego4d_features import Ego4DFeatures
from clep.preprocess.narrations import Ego4DNarrations

from .conftest import DIM, RunsCode, write_ego4d, write_features


def job(folder, **options):
    options = {"features_folder": folder / "features", "ego4d_json": None, **options}
    return Ego4DFeatures(output=folder / "out" / "bank.h5", **options)


def run(folder, **options):
    return job(folder, **options).run()


def test_packs_and_lists_what_is_missing_or_unusable(tmp_path, encoder, canary):
    narration_json, ego4d_json = write_ego4d(tmp_path)
    Ego4DNarrations(
        narration_json=narration_json, ego4d_json=ego4d_json, output_folder=tmp_path / "n", text_encoder="fake"
    ).run()
    rows = {"b": expected_rows(10.0, Clock()), "c": 3, "extra": 4}
    tensors = write_features(tmp_path / "features", rows)
    torch.save(tensors["b"][:, None], tmp_path / "features" / "b.pt")
    torch.save(torch.full((2, DIM), float("inf")), tmp_path / "features" / "d.pt")
    torch.save(RunsCode(), tmp_path / "features" / "evil.pt")
    (tmp_path / "features" / "short.pt").write_bytes(b"PK")
    torch.save(torch.ones(3, DIM + 1), tmp_path / "features" / "wide.pt")

    coverage = run(tmp_path, ego4d_json=ego4d_json, narrations=tmp_path / "n" / "narrations.arrow")
    bank = FeatureBank.open(tmp_path / "out" / "bank.h5")
    assert list(bank.videos) == ["b", "c", "extra"]
    assert torch.equal(bank.video_rows("b"), tensors["b"].half().float())
    assert bank.duration_s[0] == 10.0
    assert bank.encoder == "omnivore_video_swinl"
    assert bank.dtype == torch.float16
    lists = coverage["lists"]
    assert lists["in_ego4d_json_without_a_file"] == ["a"]
    assert lists["not_in_ego4d_json"] == ["extra"]
    assert lists["narrated_without_features"] == ["a"]
    assert list(lists["not_finite"]) == ["d"]
    assert list(lists["unsafe_pickle"]) == ["evil"]
    assert list(lists["unreadable"]) == ["short"]
    assert list(lists["other_dim"]) == ["wide"]
    assert list(lists["rows_disagree_with_duration"]) == ["c"]
    assert coverage["counts"] == {"files": 7, "videos_packed": 3, "rows": sum(rows.values()), "dim": DIM}
    assert read_json(tmp_path / "out" / "bank.coverage.json")["lists"] == lists
    assert not canary.exists()


def test_up_to_date_until_a_file_or_a_setting_changes(tmp_path):
    write_features(tmp_path / "features", {"a": 3, "b": 2})
    assert not run(tmp_path)["up_to_date"]
    assert run(tmp_path)["up_to_date"]
    # Extracted again: the same names and sizes, other values.
    write_features(tmp_path / "features", {"a": 3}, seed=1)
    assert not run(tmp_path)["up_to_date"]
    assert not run(tmp_path, dtype="float32")["up_to_date"]
    assert run(tmp_path, dtype="float32")["up_to_date"]
    assert not run(tmp_path, dtype="float32", overwrite=True)["up_to_date"]
    (tmp_path / "out" / "bank.h5").write_bytes(b"damaged")
    assert not run(tmp_path, dtype="float32")["up_to_date"]
    (tmp_path / "out" / "bank.h5").unlink()
    assert not run(tmp_path, dtype="float32")["up_to_date"]


def test_a_bad_file_can_stop_the_job(tmp_path):
    write_features(tmp_path / "features", {"a": 3})
    (tmp_path / "features" / "b.pt").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match=r"b\.pt"):
            run(tmp_path, on_error="stop")
        run(tmp_path)


def test_allow_nonfinite_keeps_nonfinite_features(tmp_path):
    write_features(tmp_path / "features", {"a": 3})
    torch.save(torch.full((2, DIM), float("nan")), tmp_path / "features" / "b.pt")
    run(tmp_path, allow_nonfinite=True, shard_bytes=1)
    assert FeatureBank.open(tmp_path / "out" / "bank.h5").video_rows("b").isnan().all()


def test_entries_that_cannot_be_read_are_listed_and_the_rest_is_packed(tmp_path):
    folder = tmp_path / "features"
    write_features(folder, {"a": 3, "b": 2, "flipped": 50})
    (folder / "dead.pt").symlink_to(tmp_path / "nowhere.pt")
    (folder / "sub.pt").mkdir()
    torch.save(torch.nested.nested_tensor([torch.ones(2, 3)]), folder / "nested.pt")
    torch.save(torch.ones(1).expand(10**11, 1), folder / "huge.pt")
    (folder / "bad\udce9.pt").write_bytes(b"nothing")
    content = bytearray((folder / "flipped.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "flipped.pt").write_bytes(content)
    assert "GB" in job(tmp_path).cost_warning(0, 10.0)
    for _ in range(2):
        coverage = run(tmp_path)
        assert FeatureBank.open(tmp_path / "out" / "bank.h5").videos == ["a", "b"]
        assert list(coverage["lists"]["unreadable"]) == ["bad\\xe9", "dead", "flipped", "sub"]
        assert list(coverage["lists"]["wrong_shape"]) == ["huge", "nested"]
    with pytest.raises(InputError, match=r"(bad|dead|flipped|sub|huge|nested).*\.pt"):
        run(tmp_path, on_error="stop")
    (folder / "dead.pt").unlink()
    write_features(folder, {"dead": 4})
    assert "dead" in FeatureBank.open(run(tmp_path) and tmp_path / "out" / "bank.h5").videos


def test_missing_inputs_are_named(tmp_path):
    with pytest.raises(InputError, match="features is not a folder"):
        run(tmp_path)
    write_features(tmp_path / "features", {"a": 3})
    with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
        run(tmp_path, ego4d_json=tmp_path / "nowhere.json")


def test_only_many_bytes_that_are_not_packed_yet_take_long(tmp_path):
    write_features(tmp_path / "features", {"a": 3})
    assert "GB of features" in job(tmp_path).cost_warning(0, 10.0)
    assert job(tmp_path).cost_warning(0, 1e9) is None
    run(tmp_path)
    assert job(tmp_path).cost_warning(0, 10.0) is None
