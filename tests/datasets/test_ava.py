from pathlib import Path

import numpy as np
import pytest

from clep.datasets.ava import read_annotations, read_detections, read_excluded, read_label_map
from clep.errors import InputError

SAMPLES = Path(__file__).parents[2].parent / "shared/data/ava"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample annotations of AVA are not there")
GOOD = "v,0902,0.1,0.2,0.3,0.4,12,1"


def write(folder, text, name="ava.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_annotations(tmp_path):
    text = '\ufeffv,0902,0.1,0,1,1.000,12,1\n\n  \n"w", 902 ,0,0,0.5,0.5,80,\nv,902.0,0,0,0,0,1,anyone\n'
    found = read_annotations(write(tmp_path, text))
    assert found.videos == ("v", "w")
    assert found.video.tolist() == [0, 1, 0]
    assert found.second.tolist() == [902] * 3
    assert found.box.tolist() == [[0.1, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 0, 0]]
    assert found.label.tolist() == [12, 80, 1]
    assert found.score is None
    assert len(found) == 3


def test_numeric_video_names_stay_text(tmp_path):
    text = "".join(f"{name},1,0,0,1,1,1,1\n" for name in ("007", "7", "NA", "nan", "True", "-0"))
    assert read_annotations(write(tmp_path, text)).videos == ("007", "7", "NA", "nan", "True", "-0")


def test_numbers_are_parsed_as_python_floats(tmp_path):
    rng = np.random.default_rng(0)
    values = np.sort(rng.random((300, 5)), axis=1)
    text = "".join(f"v,1,{a!r},{b!r},{c!r},{d!r},1,{s!r}\n" for a, b, c, d, s in values.tolist())
    found = read_detections(write(tmp_path, text))
    np.testing.assert_array_equal(np.hstack([found.box, found.score[:, None]]), values)


def test_many_rows_are_read_in_chunks(tmp_path):
    text = "".join(f"v{i % 3},{i},0,0,1,1,{i % 80 + 1},{i / 7}\n" for i in range(1300))
    found = read_detections(write(tmp_path, text))
    assert found.second.tolist() == list(range(1300))
    assert found.video.tolist() == [i % 3 for i in range(1300)]
    assert found.score.tolist() == [float(str(i / 7)) for i in range(1300)]
    with pytest.raises(InputError, match=r"line 1303: score is 'much'"):
        read_detections(write(tmp_path, f"\n{text}\nv,1,0,0,1,1,1,much\n"))


def test_only_detections_may_extend_beyond_the_image(tmp_path):
    file = write(tmp_path, "v,1,-0.02,0,1.03,1,1,0.5\n")
    assert read_detections(file).box.tolist() == [[-0.02, 0, 1.03, 1]]
    with pytest.raises(InputError, match=r"line 1: the box leaves \[0, 1\]"):
        read_annotations(file)


@pytest.mark.parametrize("read", [read_annotations, read_detections])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v,0902,0.1,0.2,0.3,0.4,12", "line 3 has 7 columns; expected 8: video,second,x1,y1,x2,y2,action,"),
        ("v", "line 3 has 1 column; expected 8"),
        (f"{GOOD},5", "line 3 has 9 columns"),
        ("v,0902,0.1,0.2,0.3,wide,12,1", "line 3: y2 is 'wide', not a number"),
        ("v,0902,0.1,,0.3,0.4,12,1", "line 3: y1 is '', not a number"),
        ("v,0902,0.1,nan,0.3,0.4,12,1", "line 3: y1 is 'nan', not a number"),
        ("v,inf,0.1,0.2,0.3,0.4,12,1", "line 3: second is 'inf', not a number"),
        ("v,-1,0.1,0.2,0.3,0.4,12,1", "line 3: second must be a number from 0"),
        ("v,-0.5", "line 3: second must be a number from 0"),
        ("v,1e18,0.1,0.2,0.3,0.4,12,1", "line 3: second must be a number from 0"),
        ("v,soon", "line 3: second is 'soon', not a number"),
        (" ,902", "line 3: the video has no name"),
        ("v,1,0.1,0.2,0.3,0.4,1.5,1", "line 3: action must be a whole number"),
        ("v,1,0.1,0.2,0.3,0.4,0,1", "line 3: action must be a whole number from 1"),
        ("v,1,0.1,0.2,0.3,0.4,81,1", "line 3: unknown action id; the ids are 1 to 80"),
        ("v,1,10,20,300,200,12,1", "line 3: the box leaves .* not pixels"),
        ("v,1,-1.5,0.2,0.3,0.4,12,1", "line 3: the box leaves"),
        (" ,1,0.1,0.2,0.3,0.4,12,1", "line 3: the video has no name"),
    ],
)
def test_an_invalid_line_is_named(tmp_path, read, line, message):
    file = write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(InputError, match=rf"ava\.csv, {message}"):
        read(file)


@pytest.mark.parametrize("box", ["0.3,0.2,0.1,0.4", "0.1,0.4,0.3,0.2"])
def test_a_swapped_box_is_refused_in_annotations_and_read_in_detections(tmp_path, box):
    file = write(tmp_path, f"{GOOD}\n\nv,1,{box},12,1\n")
    with pytest.raises(InputError, match=r"ava\.csv, line 3: the box has x1 > x2 or y1 > y2"):
        read_annotations(file)
    assert read_detections(file).box[1].tolist() == [float(cell) for cell in box.split(",")]


@pytest.mark.parametrize("read", [read_annotations, read_detections])
def test_a_row_of_two_columns_is_a_frame_without_a_box(tmp_path, read):
    found = read(write(tmp_path, f"w,0903\n{GOOD}\n v , 902.25\nv,902.2500001\n"))
    assert (len(found), found.videos) == (1, ("v",))
    assert found.empty_frames == {("w", 903), ("v", 902.25)}
    with pytest.raises(InputError, match="has no rows"):
        read(write(tmp_path, "w,0903\n"))


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeffw,0903\r\n{GOOD}\r\n",
        f'"w","0903"\n{GOOD}\n',
        f"{GOOD},\nw,0903,\n",
        f"{GOOD},,\nw,0903,,,,,,\n",
        f"w,903.0, , ,\n{GOOD}\n",
    ],
)
@pytest.mark.parametrize("read", [read_annotations, read_detections])
def test_dialects_of_frames_without_a_box(tmp_path, read, text):
    found = read(write(tmp_path, text))
    assert (len(found), found.empty_frames) == (1, {("w", 903)})


def test_annotations_may_lack_the_person_but_detections_need_a_score(tmp_path):
    file = write(tmp_path, "w,0903\nv,0902,0.1,0.2,0.3,0.4,12\nv,0902,0.1,0.2,0.3,0.4,14,\n")
    assert read_annotations(file).label.tolist() == [12, 14]
    with pytest.raises(InputError, match=r"line 2 has 7 columns; expected 8: .*score"):
        read_detections(file)


def test_an_invalid_score_is_named_and_persons_are_not_read(tmp_path):
    file = write(tmp_path, "v,0902,0.1,0.2,0.3,0.4,12,nan\n")
    assert len(read_annotations(file)) == 1
    with pytest.raises(InputError, match="line 1: score is 'nan'"):
        read_detections(file)


def test_a_header_is_refused(tmp_path):
    file = write(tmp_path, f"video,second,x1,y1,x2,y2,action,person\n{GOOD}\n")
    with pytest.raises(InputError, match="line 1: second is 'second', not a number; these files have no header line"):
        read_annotations(file)


@pytest.mark.parametrize("read", [read_annotations, read_detections, read_label_map])
def test_missing_empty_and_unreadable_files(tmp_path, read):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="has no rows|has no actions"):
        read(write(tmp_path, "\n \n"))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00v,1")
    with pytest.raises(InputError, match=r"bytes\.csv is not a readable"):
        read(tmp_path / "bytes.csv")


def test_excluded_frames(tmp_path):
    assert read_excluded(write(tmp_path, "v,0902\nw,7\nv,902\n")) == {("v", 902), ("w", 7)}
    assert read_excluded(write(tmp_path, "")) == set()
    with pytest.raises(InputError, match="line 2 has 3 columns; expected 2: video,second"):
        read_excluded(write(tmp_path, "v,0902\nv,1,2\n"))
    assert read_excluded(write(tmp_path, "v,0.5\n")) == {("v", 0.5)}
    with pytest.raises(InputError, match="line 1: second must be a number from 0"):
        read_excluded(write(tmp_path, "v,-0.5\n"))


ITEMS = '# AVA\nitem {\n  name: "bend/bow (at the {waist})"\n  id: 1\n}\nitem { name: "my id: 4" id:3 }\n'
LABELS = (
    'label {\n  name: "bend/bow (at the {waist})"\n  label_id: 1\n  label_type: PERSON_MOVEMENT\n}\n'
    'label {\n  name: "my id: 4"\n  label_id: 3\n  label_type: OBJECT_MANIPULATION\n}\n'
)
PLAIN = "1: bend/bow (at the waist)\n\n 3 : my id: 4\n"


@pytest.mark.parametrize("text", [ITEMS, LABELS, PLAIN.replace("waist", "{waist}"), PLAIN])
def test_label_maps(tmp_path, text):
    found = read_label_map(write(tmp_path, text))
    assert list(found) == [1, 3]
    assert found[1] in ("bend/bow (at the {waist})", "bend/bow (at the waist)")
    assert found[3] == "my id: 4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: bend\nbow\n", "line 2: 'bow' is neither"),
        ("1: bend\nx: bow\n", "line 2: 'x: bow' is neither"),
        ("1:\n", "line 1: '1:' is neither"),
        ("0: bend\n", "line 1: the id 0 is not between 1 and"),
        ("1: bend\n1: bow\n", "line 2: duplicate id 1, which 'bend' has too"),
        ('item {\n  name: "bend"\n}\n', "line 1: .* is neither"),
        ("item {\n  id: 5\n}\n", "line 1: .* is neither"),
        ('item { name: "bend" id: 1 }\nitem {\n  name: "bow"\n  id: 2\n', "line 2: .* is neither"),
        ('\nitem { name: "bend" id: 1 }\nitem { name: "bow" id: 1 }\n', "line 3: duplicate id 1, which 'bend' has too"),
    ],
)
def test_invalid_label_maps_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"map\.txt, {message}"):
        read_label_map(write(tmp_path, text, "map.txt"))


@needs_samples
def test_real_files():
    found = read_annotations(SAMPLES / "ava_val_v2.2_head.csv")
    assert found.videos == ("1j20qq1JyX4",)
    assert (len(found), found.second[0], found.second[-1]) == (32, 902, 1004)
    assert found.box[-1].tolist() == [0.388, 0.140, 0.750, 0.856]
    maps = [read_label_map(SAMPLES / name) for name in ("label_map.txt", "ava_action_list_v2.1.pbtxt")]
    assert maps[0] == maps[1]
    assert (len(maps[0]), maps[0][79]) == (60, "talk to (e.g., self, a person, a group)")
