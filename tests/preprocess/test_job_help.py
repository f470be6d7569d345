import inspect

import pytest
from hydra.utils import get_method

from clep.config.folder import config_folder
from clep.preprocess.__main__ import job_options
from clep.preprocess.job_help import job_files, option_meanings

JOBS = [
    *("conceptual_captions", "ego4d_features", "ego4d_narrations", "ego4d_videos"),
    *("ego_charades", "kinetics", "videos"),
    *("bank_lmdb", "lfb_export", "lfb_import", "verify"),
]


def test_every_job_is_found():
    assert set(JOBS) <= set(job_files(config_folder()))


@pytest.mark.parametrize("name", JOBS)
def test_config_signature_and_docstring_of_a_job_agree(name):
    target, options = job_options(name, [])
    parameters = inspect.signature(get_method(target)).parameters
    assert set(options) == set(parameters) == set(option_meanings(get_method(target)))
    for key, parameter in parameters.items():
        paths = key in ("ego4d_json", "output", "output_folder")
        if key in ("features", "extraction") and parameter.default is None:  # features or videos are given
            paths = True
        if parameter.default is not parameter.empty and not paths:
            assert options[key] == parameter.default, key


def test_meanings_come_from_the_docstring():
    def run(first, second):
        """Do something.

        Args:
            first: one line.
            second: two lines: the second
                belongs to it.

        Raises:
            InputError: never.
        """

    assert option_meanings(run) == {"first": "one line.", "second": "two lines: the second belongs to it."}
