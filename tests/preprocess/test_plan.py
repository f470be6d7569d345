import shlex

import pytest

from clep.errors import InputError
from clep.preprocess.__main__ import job_options
from clep.preprocess.plan import command, ensure, missing_outputs

from .conftest import write_ego4d, write_features


@pytest.fixture
def jobs(tmp_path, encoder) -> list[dict]:
    narration_json, ego4d_json = write_ego4d(tmp_path / "ego4d")
    write_features(tmp_path / "ego4d" / "features", {"a": 3, "b": 4})
    features = {
        "_target_": "clep.preprocess.ego4d_features.run",
        "features_folder": str(tmp_path / "ego4d" / "features"),
        "output": str(tmp_path / "out" / "ego4d_features.h5"),
    }
    narrations = {
        "_target_": "clep.preprocess.ego4d_narrations.run",
        "narration_json": str(narration_json),
        "ego4d_json": str(ego4d_json),
        "output_folder": str(tmp_path / "out"),
        "text_encoder": "fake",
        "device": "cpu",
    }
    return [features, narrations]


def test_runs_what_is_missing_and_nothing_twice(tmp_path, jobs, encoder):
    assert [path.name for job in jobs for path in missing_outputs(job)] == [
        "ego4d_features.h5", "narrations.arrow", "texts.fake.h5",
    ]  # fmt: skip
    first = ensure(jobs)
    assert not first[0]["up_to_date"]
    assert not first[1]["texts"]["up_to_date"]
    assert not any(missing_outputs(job) for job in jobs)
    encoder.encoded.clear()
    again = ensure(jobs)
    assert [again[0]["up_to_date"], again[1]["up_to_date"], again[1]["texts"]["up_to_date"]] == [True] * 3
    assert encoder.encoded == []


def test_what_takes_long_is_left_to_the_user_with_its_command(jobs, encoder):
    with pytest.raises(InputError, match="GB of features are to be packed"):
        ensure(jobs, long_bytes=10)
    with pytest.raises(InputError, match=r"5 distinct texts .* without a GPU, which takes long") as caught:
        ensure(jobs, long_texts=4)
    assert str(caught.value).endswith(command(jobs[1]))
    assert encoder.encoded == []
    ensure(jobs)
    ensure(jobs, long_texts=4, long_bytes=10)


def test_results_without_their_inputs_are_taken_as_they_are(tmp_path, jobs):
    ensure(jobs)
    (tmp_path / "ego4d").rename(tmp_path / "elsewhere")
    assert ensure(jobs) == []
    (tmp_path / "out" / "texts.fake.h5").unlink()
    with pytest.raises(InputError, match=r"texts\.fake\.h5 is missing, and so is .*narration\.json") as caught:
        ensure(jobs)
    assert command(jobs[1]) in str(caught.value)


def test_wrong_jobs_and_options_are_named(jobs):
    with pytest.raises(InputError, match="is not a job"):
        ensure([{"_target_": "os.system"}])
    with pytest.raises(InputError, match="is not a job"):
        ensure([{"_target_": "clep.preprocess.nothing.run"}])
    with pytest.raises(InputError, match="no option 'encodr'"):
        ensure([{**jobs[1], "encodr": "x"}])
    with pytest.raises(InputError, match="'abc' is of type str"):
        ensure([{**jobs[1], "chunk": "abc"}])


def test_the_command_reads_back_as_the_job(jobs):
    odd = {
        "_target_": "clep.preprocess.ego_charades.run",
        "csv": ["a b.csv", "it's, [here].csv", "c:\\d.csv"],
        "classes": "1e5",
        "features": "null",
        "output_folder": "/x/y z",
        "text_encoder": "org/model",
        "device": "cuda:1",
        "overwrite": True,
        "rows_per_second": 2,
    }
    for job in (*jobs, odd):
        words = shlex.split(command(job))
        assert words[:3] == ["python", "-m", "clep.preprocess"]
        _, options = job_options(words[3], words[4:])
        for key, value in job.items():
            if key != "_target_":
                assert options[key] == value
