"""Lists of labelled videos: all layouts, and errors."""

from pathlib import Path

import pytest

from clep.data import LabelledVideos, LabelledVideoSource
from clep.datasets.splits import hash_fraction
from clep.errors import InputError


def listed(folder: Path, text: str, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("a.mp4 0\nb.mp4 12\n", ["a.mp4", "b.mp4"], [0, 12]),
        ("a.mp4,0\nb.mp4,1\n", ["a.mp4", "b.mp4"], [0, 1]),
        ("a.mp4, 0\r\n\r\nb.mp4 ,1\r\n", ["a.mp4", "b.mp4"], [0, 1]),
        ("a.mp4\t0\nb c.mp4\t1\n", ["a.mp4", "b c.mp4"], [0, 1]),
        ("path,label\na.mp4,3\n", ["a.mp4"], [3]),
        ("\ufeffpath label\na.mp4 3\n", ["a.mp4"], [3]),
        ("Video\tClass\na.mp4\t3\n", ["a.mp4"], [3]),
        ("my film.mp4 3\nd, e.mp4 4\n", ["my film.mp4", "d, e.mp4"], [3, 4]),
        ('"f, g.mp4",5\n"h i.mp4" 6\n', ["f, g.mp4", "h i.mp4"], [5, 6]),
        ("path.mp4 1\n", ["path.mp4"], [1]),
        ("video_name,label\na.mp4,3\n", ["a.mp4"], [3]),
        ("\nthe film\tclass id\n\na.mp4\t3\n", ["a.mp4"], [3]),
        ("name label\na 3\n", ["a"], [3]),
    ],
)
def test_all_layouts_of_lines_are_read(tmp_path: Path, text: str, names: list[str], labels: list[int]) -> None:
    videos = LabelledVideos.read(listed(tmp_path, text))
    assert list(videos.paths) == [tmp_path / name for name in names]
    assert list(videos.labels) == labels


def test_base_folder_of_relative_paths(tmp_path: Path) -> None:
    path = listed(tmp_path, f"a.mp4 0\n{tmp_path}/b.mp4 1\n")
    assert LabelledVideos.read(path, tmp_path / "films").paths == (tmp_path / "films" / "a.mp4", tmp_path / "b.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.mp4 0\nb.mp4 wash\n",
            r"train.csv, line 2: the label 'wash' is not a class index .*data\.source\.classes=FILE",
        ),
        ("a.mp4 -1\n", r"line 1: the label '-1' is not a class index"),
        ("a.mp4 1.5\n", r"line 1: the label '1.5' is not a class index"),
        ("a.mp4\n", r"line 1: expected `path label`"),
        ("a.mp4 0\nb.mp4,\n", r"line 2: expected `path label`"),
        (",3\n", r"line 1: expected `path label`"),
        ("", r"train.csv is empty"),
        ("path label\n", r"train.csv is empty"),
        ("a.mp4 wash\nb.mp4 0\n", r"line 1: the label 'wash' is not a class index"),
        ("a -1\nb 0\n", r"line 1: the label '-1' is not a class index"),
        ("name label\na wash\n", r"line 1: the label 'label' is not a class index"),
        ("path label\nfile label\na.mp4 0\n", r"line 2: the label 'label' is not a class index"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelledVideos.read(listed(tmp_path, text))


def test_missing_and_binary_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        LabelledVideos.read(tmp_path / "none.csv")
    (tmp_path / "film.csv").write_bytes(b"\x00\xff\xfe" * 9)
    with pytest.raises(InputError, match=r"film\.csv is not a readable text file"):
        LabelledVideos.read(tmp_path / "film.csv")


def source(folder: Path, lines: list[str], missing: int = 0, **options: object) -> LabelledVideoSource:
    """Return a source of these lines; their files exist, except the first `missing`."""
    for line in lines[missing:]:
        (folder / line.split()[0]).touch()
    return LabelledVideoSource(listed(folder, "\n".join(lines)), **options)


LINES = [f"v{number}.mp4 {number % 3}" for number in range(30)]


def test_held_out_videos_depend_on_their_names_only(tmp_path: Path) -> None:
    split = source(tmp_path, LINES, val_fraction=0.3).open()
    assert len(split.train) + len(split.val) == 30
    assert 2 <= len(split.val) <= 16
    assert split.classes == ["0", "1", "2"]
    more = [*reversed(LINES), *(f"w{number}.mp4 0" for number in range(9))]
    again = source(tmp_path, more, val_fraction=0.3).open()
    assert set(split.val.paths) == {path for path in again.val.paths if path.name.startswith("v")}


def test_a_separate_validation_list(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    val = listed(tmp_path, "x.mp4 2\n", "val.csv")
    split = source(tmp_path, LINES, val=val).open()
    assert (len(split.train), split.val.paths, split.val.labels) == (30, (tmp_path / "x.mp4",), (2,))


def test_missing_files_are_refused_or_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"4 of the 30 videos of .*train\.csv do not exist \(.*v0\.mp4.*on_error=skip"):
        source(tmp_path, LINES, missing=4).open()
    skipping = LabelledVideoSource(tmp_path / "train.csv", on_error="skip", val_fraction=0.3)
    split = skipping.open()
    assert len(split.train) + len(split.val) == 26
    assert skipping.report["files that do not exist"] == 4
    with pytest.raises(InputError, match=r"30 of the 30 videos"):
        LabelledVideoSource(tmp_path / "train.csv", folder=tmp_path / "elsewhere", on_error="skip").open()


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 0, 0], None, r"videos of one class only"),
        ([2, 2, 2], 3, r"training videos of class 2 only"),
        ([0, 2, 0], None, r"have gaps: of 0 to 2 no video has 1\..*data\.source\.classes=3"),
        ([0, 1, 7], 2, r"has the label 7, but there are 2 classes, 0 to 1"),
        ([0, 1, 2], "names", r"has the label 2, but there are 2 classes"),
    ],
)
def test_labels_that_do_not_fit_the_classes(tmp_path: Path, labels: list[int], classes: object, message: str) -> None:
    listed(tmp_path, "wash\ncut\n", "names.txt")
    lines = [f"v{number}.mp4 {label}" for number, label in enumerate(labels * 4)]
    named = tmp_path / "names.txt" if classes == "names" else classes
    val = listed(tmp_path, f"v0.mp4 {labels[0]}\n", "val.csv")
    with pytest.raises(InputError, match=message):
        source(tmp_path, lines, classes=named, val=val).open()


def test_a_held_out_label_outside_the_classes(tmp_path: Path) -> None:
    val = listed(tmp_path, "v0.mp4 3\n", "val.csv")
    with pytest.raises(InputError, match=r"val\.csv has the label 3, but there are 3 classes"):
        source(tmp_path, LINES, val=val).open()


def test_gaps_are_allowed_if_the_classes_are_given(tmp_path: Path) -> None:
    listed(tmp_path, "wash\ncut\ncover\nmove\n", "names.txt")
    named = source(tmp_path, LINES, classes=tmp_path / "names.txt", val_fraction=0.3)
    assert named.open().classes == ["wash", "cut", "cover", "move"]
    assert named.report["classes without a training video"] == 1


@pytest.mark.parametrize("missing", [0, 1])
def test_a_class_whose_only_video_is_held_out_or_missing_counts(tmp_path: Path, missing: int) -> None:
    held = next(number for number in range(99) if (hash_fraction(f"v{number}.mp4") < 0.3) == (not missing))
    lines = [f"v{held}.mp4 1", *(f"w{number}.mp4 {number % 2 * 2}" for number in range(30))]
    made = source(tmp_path, lines, missing=missing, on_error="skip", val_fraction=0.3)
    split = made.open()
    assert split.classes == ["0", "1", "2"]
    assert 1 not in split.train.labels
    assert (1 in split.val.labels) == (not missing)
    assert (made.report["classes without a training video"], made.report["not trained on"]) == (1, ["1"])


def test_a_fraction_that_leaves_an_empty_side(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val_fraction=0 must be between 0 and 1"):
        LabelledVideoSource(tmp_path / "train.csv", val_fraction=0)
    with pytest.raises(InputError, match=r"leaves 30 for training and 0 held out"):
        source(tmp_path, LINES, val_fraction=1e-9).open()
