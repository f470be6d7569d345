import os
import shutil

import pytest
import torch

from clep.errors import InputError
from clep.extraction.inputs import file_digest, folder_digest


def test_files_are_told_apart_by_content_and_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("one")
    b.write_text("two")
    assert file_digest(a) == file_digest(a)
    assert len({file_digest(a), file_digest(b), file_digest(a, b), file_digest(b, a), file_digest(a, None)}) == 5
    with pytest.raises(InputError, match="nowhere does not exist"):
        file_digest(tmp_path / "nowhere")


def test_a_folder_of_features_is_the_same_after_copying_and_another_after_extracting_again(tmp_path):
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
