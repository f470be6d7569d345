import shutil

from clep.extraction import videos as video_rows
from clep.extraction.listing import list_videos
from clep.extraction.videos import missing_videos
from clep.preprocess.videos import Videos
from tests.extraction.conftest import EXTRACTION, run


def test_missing_videos_are_those_that_a_run_would_encode(films, tmp_path, encoder):
    out = tmp_path / "features.h5"

    def left(**options) -> list[str]:
        outer = {"overwrite": options.pop("overwrite", False)}
        items = missing_videos(list_videos(films), out, {**EXTRACTION, **options}, "float16", **outer)
        return [item.id for item in items]

    assert left(limit=2) == ["a", "b"]
    (films / "bad.mp4").write_bytes(b"")
    run(films, out, ids=["a", "b", "e", "bad"])
    assert left() == ["more/c", "more/d"]
    assert left(retry_failed=True) == ["bad", "more/c", "more/d"]
    assert left(stride=8) == ["a", "b", "bad", "e", "more/c", "more/d"]
    assert left(overwrite=True, ids=["a"]) == ["a"]
    shutil.copy(films / "a.mp4", films / "b.mp4")
    assert left() == ["b", "more/c", "more/d"]


def test_an_incomplete_bank_still_warns(films, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(video_rows, "LARGE_VIDEO_BYTES", 1.0)
    out = tmp_path / "features.h5"
    job = Videos(videos=films, output=out, extraction=EXTRACTION)
    run(films, out, limit=4)
    assert "GB of video are to be encoded" in job.cost_warning(0, 0)
    run(films, out)
    assert job.cost_warning(0, 0) is None
