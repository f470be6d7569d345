import io
import os
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console

from clep.checksums import read_checked_json
from clep.errors import InputError
from clep.extraction.coverage import SHOWN, Coverage, coverage_table, file_digest, folder_digest, read_coverage


def coverage(folder, inputs="digest", **settings) -> Coverage:
    return Coverage("job", folder / "x.y.h5", inputs, settings)


def shown(result) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(coverage_table(result))
    return console.file.getvalue()


def test_lists_are_complete_in_the_file_and_short_in_the_table(tmp_path, capsys):
    found = coverage(tmp_path)
    names = [f"video{number}" for number in range(10)]
    found.count(rows=12345, name="[bold]", part=0.5)
    found.add_list("missing_videos", names)
    found.add_list("bad", {"a": "reason [1]"})
    found.add_list("none", [])
    result = found.write()
    assert read_checked_json(tmp_path / "x.y.coverage.json") == result
    assert result["lists"] == {"missing_videos": names, "bad": {"a": "reason [1]"}, "none": []}
    table = shown(result)
    assert "12,345" in table
    assert "[bold]" in table
    assert "a: reason [1]" in table
    assert f"video{SHOWN - 1}, … 7 more" in table
    assert f"video{SHOWN}," not in table
    assert "x.y.coverage.json" in capsys.readouterr().out


def test_the_last_run_counts_only_for_equal_inputs_and_settings_and_an_existing_output(tmp_path):
    coverage(tmp_path, dtype="a").write()
    assert coverage(tmp_path, dtype="a").last_run(Path.stat) is None
    (tmp_path / "x.y.h5").write_bytes(b"")
    assert coverage(tmp_path, dtype="a").last_run(Path.stat)["job"] == "job"
    assert coverage(tmp_path, dtype="b").last_run(Path.stat) is None
    assert coverage(tmp_path, "other", dtype="a").last_run(Path.stat) is None

    def damaged(path):
        raise InputError(f"{path} is truncated")

    assert coverage(tmp_path, dtype="a").last_run(damaged) is None
    coverage(tmp_path).forget_last_run()
    assert coverage(tmp_path, dtype="a").last_run(Path.stat) is None


def test_a_damaged_coverage_is_ignored(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"")
    for content in ("{", "[]"):
        (tmp_path / "x.coverage.json").write_text(content)
        assert read_coverage(tmp_path / "x.h5") is None


def test_file_digests_depend_on_content_and_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("one")
    b.write_text("two")
    assert file_digest(a) == file_digest(a)
    assert len({file_digest(a), file_digest(b), file_digest(a, b), file_digest(b, a), file_digest(a, None)}) == 5
    with pytest.raises(InputError, match="nowhere does not exist"):
        file_digest(tmp_path / "nowhere")


def test_folder_digests_survive_copying_but_not_a_new_extraction(tmp_path):
    path = tmp_path / "in" / "a.pt"
    path.parent.mkdir()
    torch.save(torch.zeros(5000), path)
    first = folder_digest([path])
    shutil.copytree(path.parent, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "a.pt", (1, 1))
    assert folder_digest([tmp_path / "copy" / "a.pt"]) == first
    values = torch.zeros(5000)
    values[0] = 1.0
    size = path.stat().st_size
    torch.save(values, path)
    assert path.stat().st_size == size
    assert folder_digest([path]) != first
    changed = folder_digest([path])
    assert folder_digest([path.rename(tmp_path / "in" / "b.pt")]) != changed
