"""What all jobs share: `ensure`, the command that a job writes, and the building from a config."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from clep.compute.locks import file_lock
from clep.config.folder import config_folder
from clep.errors import InputError
from clep.extraction import Extraction
from clep.preprocess.__main__ import job_options
from clep.preprocess.ego4d_features import Ego4DFeatures
from clep.preprocess.ego_charades import EgoCharades
from clep.preprocess.job import Job, build_job, ensure, nearest_choice
from clep.preprocess.kinetics import Kinetics
from clep.preprocess.narrations import Ego4DNarrations
from clep.preprocess.verify import Verify
from clep.preprocess.videos import Videos

from .conftest import FakeEncoder, write_ego4d, write_features


@pytest.fixture
def jobs(tmp_path: Path, encoder: FakeEncoder) -> list[dict[str, Any]]:
    narration_json, ego4d_json = write_ego4d(tmp_path / "ego4d")
    write_features(tmp_path / "ego4d" / "features", {"a": 3, "b": 4})
    features = {
        "_target_": "clep.preprocess.ego4d_features.Ego4DFeatures",
        "features_folder": str(tmp_path / "ego4d" / "features"),
        "ego4d_json": None,
        "output": str(tmp_path / "out" / "ego4d_features.h5"),
    }
    narrations = {
        "_target_": "clep.preprocess.narrations.Ego4DNarrations",
        "narration_json": str(narration_json),
        "ego4d_json": str(ego4d_json),
        "output_folder": str(tmp_path / "out"),
        "text_encoder": "fake",
        "device": "cpu",
    }
    return [features, narrations]


def test_runs_what_is_missing_and_nothing_twice(tmp_path: Path, jobs: list[dict], encoder: FakeEncoder) -> None:
    made = [build_job(job) for job in jobs]
    assert [path.name for job in made for path in job.missing_outputs()] == [
        "ego4d_features.h5", "narrations.arrow", "texts.fake.h5",
    ]  # fmt: skip
    first = ensure(jobs)
    assert not first[0]["up_to_date"]
    assert not first[1]["texts"]["up_to_date"]
    assert not any(job.missing_outputs() for job in made)
    encoder.encoded.clear()
    again = ensure(made)
    assert [again[0]["up_to_date"], again[1]["up_to_date"], again[1]["texts"]["up_to_date"]] == [True] * 3
    assert encoder.encoded == []


def test_what_takes_long_is_left_to_the_user_with_its_command(jobs: list[dict], encoder: FakeEncoder) -> None:
    with pytest.raises(InputError, match=r"ego4d_features: .*GB of features are to be packed"):
        ensure(jobs, long_bytes=10)
    features, narrations = map(build_job, jobs)
    with pytest.raises(InputError, match=r"5 distinct texts .* without a GPU, which takes long") as caught:
        ensure(jobs, long_texts=4)
    assert str(caught.value).endswith(narrations.command())
    assert features.missing_outputs()  # costs of all jobs are checked before the first one starts
    with pytest.raises(InputError, match=r"ego4d_features: .*GB.*; ego4d_narrations: 5 distinct texts") as caught:
        ensure(jobs, long_texts=4, long_bytes=10)
    assert str(caught.value).endswith(f"{features.command()}; {narrations.command()}")
    assert encoder.encoded == []
    ensure(jobs)
    ensure(jobs, long_texts=4, long_bytes=10)


def test_results_without_their_inputs_are_used(tmp_path: Path, jobs: list[dict]) -> None:
    ensure(jobs)
    (tmp_path / "ego4d").rename(tmp_path / "elsewhere")
    assert ensure(jobs) == []
    (tmp_path / "out" / "texts.fake.h5").unlink()
    with pytest.raises(InputError, match=r"ego4d_narrations needs .*narration\.json.*paths\.data=DIR") as caught:
        ensure(jobs)
    assert build_job(jobs[1]).command() in str(caught.value)


def test_missing_inputs_of_all_jobs_are_named_before_the_first_job_starts(
    tmp_path: Path, jobs: list[dict], encoder: FakeEncoder
) -> None:
    """A training must not fail after an hour because the input of its third job is missing."""
    later = [
        Kinetics(csv=tmp_path / "val.csv", features=tmp_path / "kinetics", output_folder=tmp_path / "out" / "k"),
        EgoCharades(
            csv=[tmp_path / "test.csv"], classes=tmp_path / "classes.txt", features=tmp_path, output_folder=tmp_path
        ),
    ]
    with pytest.raises(InputError) as caught:
        ensure([*jobs, *later])
    message = str(caught.value)
    for path in (tmp_path / "val.csv", tmp_path / "kinetics", tmp_path / "test.csv", tmp_path / "classes.txt"):
        assert str(path) in message
    for job in later:
        assert job.command() in message
    assert "ego4d_narrations" not in message
    assert not (tmp_path / "out").exists()


def test_wrong_options_of_any_job_are_named_before_the_first_job_starts(tmp_path: Path, jobs: list[dict]) -> None:
    with pytest.raises(InputError, match="no option 'encodr'"):
        ensure([jobs[0], {**jobs[1], "encodr": "x"}])
    assert not (tmp_path / "out").exists()


def test_what_an_earlier_job_writes_counts_as_present(tmp_path: Path, jobs: list[dict]) -> None:
    narrations = tmp_path / "out" / "narrations.arrow"
    chain = [jobs[1], {**jobs[0], "narrations": str(narrations)}]
    with pytest.raises(InputError, match=r"ego4d_features needs \S*narrations\.arrow"):
        ensure(list(reversed(chain)))
    done = ensure([*chain, Verify(path=tmp_path / "out")])
    assert done[1]["lists"]["narrated_without_features"] == ["c"]
    assert done[2]["intact"] >= 3


def test_wrong_jobs_and_options_are_named(jobs: list[dict]) -> None:
    for target in ("os.system", "clep.preprocess.job.Job", "clep.preprocess.narrations.NarrationsJob"):
        with pytest.raises(InputError, match=rf"_target_='{target}' is not a job"):
            ensure([{"_target_": target}])
    with pytest.raises(InputError, match=r"_target_='clep\.preprocess\.nothing\.Job' cannot be imported"):
        ensure([{"_target_": "clep.preprocess.nothing.Job"}])
    with pytest.raises(InputError, match="chunk='abc' is of type str"):
        ensure([{**jobs[1], "chunk": "abc"}])
    with pytest.raises(InputError, match=r"extraction\.window='x'"):
        job = {"_target_": "clep.preprocess.videos.Videos", "extraction": {"encoder": {}, "window": "x"}}
        build_job({**job, "extraction": {"_target_": "clep.extraction.Extraction", **job["extraction"]}})


def read_back(job: Job) -> Job:
    words = shlex.split(job.command())
    assert words[:3] == ["python", "-m", "clep.preprocess"]
    return build_job(job_options(words[3], words[4:]))


def test_the_command_reads_back_as_the_job(jobs: list[dict]) -> None:
    special = EgoCharades(
        csv=["a b.csv", "it's, [here].csv", "c:\\d.csv"],
        classes="1e5",
        features="null",
        output_folder="/x/y z",
        text_encoder="org/model",
        device="cuda:1",
        overwrite=True,
        rows_per_second=2,
    )
    assert replace(read_back(special), extraction=None) == special
    for job in jobs:
        assert read_back(build_job(job)) == build_job(job)


def test_a_command_gives_the_data_folder_where_that_is_shorter() -> None:
    moved = build_job(job_options("kinetics", ["paths.data=/x", "encoder=clip", "window=8"]))
    assert moved.command() == "python -m clep.preprocess kinetics paths.data=/x encoder=clip window=8"
    assert read_back(moved) == moved
    elsewhere = build_job(job_options("kinetics", ["paths.data=/x", "csv=/y/kinetics/val.csv"]))
    assert elsewhere.command() == "python -m clep.preprocess kinetics paths.data=/x csv=/y/kinetics/val.csv"
    assert read_back(elsewhere) == elsewhere
    one = Ego4DFeatures(output="/o/clep/ego4d_features.h5")
    assert read_back(one) == one


def test_a_command_leaves_defaults_out() -> None:
    assert Ego4DFeatures(dtype="float16").command() == "python -m clep.preprocess ego4d_features"
    plain = Ego4DNarrations(tag_style="raw")
    assert plain.output_folder == "data/clep/narrations_raw"
    assert plain.command() == "python -m clep.preprocess ego4d_narrations tag_style=raw"


def test_a_command_of_videos_composes_to_the_options_it_was_made_from() -> None:
    given = ["videos='some folder'", "encoder=efficientnet_lite0", "encoder.frames=2", "compute=slurm"]
    given += ["compute.partition=gpu", "segments=3", "sampling=segments", "ids=[a,b]", "limit=null"]
    job = build_job(job_options("videos", given))
    words = shlex.split(job.command())
    assert words[:4] == ["python", "-m", "clep.preprocess", "videos"]
    assert {"compute=slurm", "compute.partition=gpu", "encoder=efficientnet_lite0", "encoder.frames=2"} <= set(words)
    assert read_back(job) == job
    assert isinstance(job, Videos)
    as_object = replace(job, extraction=Extraction.of(job.extraction))
    assert read_back(as_object) == job


def test_a_command_with_an_encoder_of_ones_own_reads_back() -> None:
    job = build_job(job_options("videos", ["encoder={_target_: tests.extraction.conftest.Brightness}", "window=4"]))
    assert read_back(job) == job


def test_each_file_is_its_own_nearest_choice() -> None:
    for group in ("encoder", "compute"):
        for path in (config_folder() / group).glob("*.yaml"):
            assert nearest_choice(group, OmegaConf.to_container(OmegaConf.load(path))) == (path.stem, {})
    assert nearest_choice("encoder", {"_target_": "clep.other"}) == ("", {"_target_": "clep.other"})


def test_a_part_of_several_machines_locks_its_part_alone(tmp_path: Path) -> None:
    """Two machines encode shard=0/2 and shard=1/2 of one output at the same time; two runs of one part do not."""
    jobs = [
        Videos(output=tmp_path / "b.h5", extraction={"encoder": {}, **({"shard": part} if part else {})})
        for part in (None, "0/2", "1/2")
    ]
    for job in jobs:
        with job.lock():
            pass
    assert len(list(tmp_path.glob(".*.lock"))) == 3
    with file_lock(tmp_path / "other"), jobs[0].lock(), jobs[1].lock(), jobs[2].lock():
        assert not (tmp_path / "b.h5").exists()
