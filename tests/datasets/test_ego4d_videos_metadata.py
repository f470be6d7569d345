import json
import math

import pytest

from clep.datasets.ego4d import Ego4DVideo, read_videos
from clep.errors import InputError


@pytest.mark.parametrize(
    "content",
    ["[]", '{"videos": [{"uid": 1}]}', '{"clips": []}', '{"videos": [{"video_uid": "a", "duration_sec": "x"}]}'],
)
def test_metadata_of_another_layout_is_refused(tmp_path, content):
    (tmp_path / "ego4d.json").write_text(content)
    with pytest.raises(InputError, match=r"ego4d\.json is not Ego4D's metadata.*duration_sec.*is_stereo"):
        read_videos(tmp_path / "ego4d.json")


def test_lengths_and_stereo(tmp_path):
    listed = [{"video_uid": "a", "duration_sec": None}, {"video_uid": "b", "is_stereo": False}]
    listed += [{"video_uid": "c", "duration_sec": -1.0}, {"video_uid": "d", "duration_sec": 7, "is_stereo": True}]
    (tmp_path / "ego4d.json").write_text(json.dumps({"videos": listed}))
    videos = read_videos(tmp_path / "ego4d.json")
    assert videos["d"] == Ego4DVideo(7.0, True)
    assert [video for video, known in videos.items() if math.isnan(known.duration_s)] == ["a", "b", "c"]
    assert not any(videos[video].stereo for video in "abc")
