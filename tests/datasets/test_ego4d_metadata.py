import json
import math
from pathlib import Path
from typing import Any

import pytest

from clep.datasets.ego4d import read_ego4d_metadata
from clep.errors import InputError
from clep.text.narration_table import VideoMetadata
from tests.text.sample_table import about


def write(folder: Path, content: Any) -> Path:
    (folder / "ego4d.json").write_text(json.dumps(content))
    return folder / "ego4d.json"


def test_reads_durations_and_splits(tmp_path: Path) -> None:
    path = write(tmp_path, {"videos": [about("a", 12, em="val", fho="multi"), about("b", None)]})
    read = read_ego4d_metadata(path)
    assert read["a"] == VideoMetadata(12.0, ("val", "multi", ""))
    assert math.isnan(read["b"].duration_s)
    assert read["b"].splits == ("", "", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "'videos'"),
        ({"clips": []}, "'videos'"),
        ({"videos": [{"duration_sec": 3}]}, r"videos\[0\].*'video_uid'"),
        ({"videos": ["a"]}, r"videos\[0\].*'video_uid'"),
        ({"videos": [about("a"), about("a")]}, "duplicate video 'a'"),
        ({"videos": [about("a", duration="long")]}, "'duration_sec' of 'a' is 'long'"),
        ({"videos": [about("a", duration=-1)]}, "'duration_sec' of 'a' is -1"),
        ({"videos": [about("a", em=3)]}, "'split_em' of 'a' is 3"),
        (
            {"videos": [{"video_uid": "a", "duration_sec": 1, "split_em": None, "split_av": None}]},
            "'split_fho'.*missing",
        ),
    ],
)
def test_wrong_schema(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"ego4d\.json.*{message}"):
        read_ego4d_metadata(write(tmp_path, content))


def test_truncated(tmp_path: Path) -> None:
    (tmp_path / "ego4d.json").write_text('{"videos": [{"video_uid": "a"')
    with pytest.raises(InputError, match=r"ego4d\.json is not valid JSON"):
        read_ego4d_metadata(tmp_path / "ego4d.json")
