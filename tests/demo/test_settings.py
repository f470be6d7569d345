import json

import pytest

from clep.demo import EncoderSettings, WorldSettings
from clep.errors import InputError


def test_settings_survive_json():
    settings = WorldSettings(training_videos=3, encoder=EncoderSettings(jitter=0.25))
    assert WorldSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_videos": 0},
        {"kinetics_clips": 0},
        {"shortest_s": 5.0},
        {"shortest_s": 50.0, "longest_s": 40.0},
        {"unseen_per_verb": 40},
        {"unseen_per_verb": 1, "charades_classes": 157},
        {"feature_dtype": "int8"},
    ],
)
def test_a_value_out_of_range_is_named(wrong):
    with pytest.raises(InputError, match=next(reversed(wrong))):
        WorldSettings(**wrong)
