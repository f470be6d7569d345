"""Every job of the package, found from its source: one declaration gives list, config, help and checks."""

import shlex
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clep.command_line import option_meanings
from clep.config.check import check_call
from clep.preprocess.__main__ import job_options, main
from clep.preprocess.catalogue import find_job, listed_jobs
from clep.preprocess.job import Job, build_job

JOBS = list(listed_jobs())


@cache
def composed(name: str) -> dict[str, Any]:
    return job_options(name, ["paths.data='my data'"])


def subclasses(kind: type) -> set[type]:
    return {kind, *(one for direct in kind.__subclasses__() for one in subclasses(direct))}


def test_the_list_from_the_source_holds_every_job_that_exists() -> None:
    for name in JOBS:
        find_job(name)
    imported = {one.name: one for one in subclasses(Job) if one.name and one.__module__.startswith("clep.preprocess.")}
    assert sorted(imported) == JOBS
    assert {name: find_job(name) for name in JOBS} == imported
    assert {"ava", "ego4d_narrations", "kinetics", "lfb_export", "verify", "videos"} <= set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_the_command_line_starts_from_the_declared_options(name: str) -> None:
    """The options that Hydra composes are those of the object that Python code builds without arguments."""
    job = find_job(name)
    options = dict(composed(name))
    assert options.pop("_target_") == f"{job.__module__}.{job.__qualname__}"
    assert set(options) == {option.name for option in job.options()}
    check_call(job, options, name)
    made = job()
    for option in job.options():
        if "group" not in option.metadata:
            value = getattr(made, option.name)
            expected = f"my data{value[4:]}" if isinstance(value, str) and value.startswith("data/") else value
            assert options[option.name] == expected, option.name
        elif option.metadata["choice"] is None:
            assert options[option.name] is None
        else:
            assert options[option.name]["encoder"]["_target_"].startswith("clep.")
    assert all(isinstance(path, Path) and "$" not in str(path) for path in [*made.inputs(), *made.outputs()])


@pytest.mark.parametrize("name", JOBS)
def test_every_option_has_a_meaning_and_every_job_a_summary(name: str) -> None:
    job = find_job(name)
    assert set(option_meanings(job)) == {option.name for option in job.options()}
    assert listed_jobs()[name].summary == (job.__doc__ or "").split("\n")[0] != ""


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_built_from_its_composed_config_and_writes_its_own_command(name: str) -> None:
    made = build_job(composed(name))
    assert isinstance(made, find_job(name))
    words = shlex.split(made.command())
    assert words[:4] == ["python", "-m", "clep.preprocess", name]
    assert len(words) == 5  # paths.data, or the one option that differs from its default
    assert build_job(job_options(name, words[4:])) == made


def test_paths_move_and_options_of_the_same_job_are_followed() -> None:
    moved = job_options("ava", ["paths.data=D", "split=val"])
    assert (moved["annotations"], moved["output"]) == ("D/ava/ava_val_v2.2.csv", "D/clep/ava/val.h5")
    made = find_job("ava")(split="val")
    assert (made.annotations, made.output) == ("data/ava/ava_val_v2.2.csv", "data/clep/ava/val.h5")
    assert find_job("egoclip")(tag_style="raw").output_folder == "data/clep/egoclip_raw"


def test_a_given_text_is_no_interpolation() -> None:
    """Only declared defaults are resolved: a folder may be called anything."""
    made = find_job("kinetics")(csv="${paths.data}", output_folder="${x")
    assert (made.csv, made.output_folder) == ("${paths.data}", "${x")
    assert made.features == "data/kinetics/features"


def test_meanings_come_from_the_docstring_and_those_of_the_base_classes() -> None:
    class Base:
        """Do something.

        Args:
            first: one line.
            second: two lines: the second
                belongs to it.

        Raises:
            InputError: never.
        """

    class Derived(Base):
        """Do more.

        Attributes:
            first: another line.
            third, fourth: both.
        """

    assert option_meanings(Derived) == {
        "first": "another line.", "second": "two lines: the second belongs to it.", "third": "both.", "fourth": "both.",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in JOBS if "extraction" in {one.name for one in find_job(name).options()}]
)
def test_help_explains_each_option_of_how_videos_are_encoded(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main([name, "--help"]) == 0
    _, _, printed = capsys.readouterr().out.partition("How videos are encoded:")
    rows = dict(line.split(maxsplit=1) for line in printed.splitlines() if line.startswith("  "))
    options = composed(name)["extraction"]
    assert set(options) <= set(rows)
    assert not [option for option in options if len(rows[option].split()) < 3], rows
    assert ("feature map" in rows["encoder"]) == (name == "ava")


def test_no_required_option_of_a_job_lacks_a_default() -> None:
    """A job runs without options once its files lie where conf/paths expects them."""
    assert not [(name, one.name) for name in JOBS for one in find_job(name).options() if one.default is MISSING]
