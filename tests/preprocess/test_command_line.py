import shlex

from omegaconf import OmegaConf

from clep.config.folder import config_folder
from clep.preprocess.__main__ import job_options
from clep.preprocess.command_line import command_line, nearest_choice


def test_a_written_command_composes_to_the_options_it_was_made_from():
    asked = ["videos='some folder'", "encoder=efficientnet_lite0", "encoder.frames=2", "compute=slurm"]
    asked += ["compute.partition=gpu", "segments=3", "sampling=segments", "ids=[a,b]", "limit=null"]
    _, options = job_options("videos", asked)
    line = command_line("videos", options)
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "clep.preprocess", "videos"]
    assert "compute=slurm" in words
    assert "compute.partition=gpu" in words
    assert "encoder=efficientnet_lite0" in words
    assert "encoder.frames=2" in words
    _, again = job_options("videos", words[4:])
    assert again == options


def test_each_file_is_its_own_nearest_choice():
    for group in ("encoder", "compute"):
        for path in (config_folder() / group).glob("*.yaml"):
            assert nearest_choice(group, OmegaConf.to_container(OmegaConf.load(path))) == (path.stem, {})
    assert nearest_choice("encoder", {"_target_": "clep.other"}) == ("", {"_target_": "clep.other"})
