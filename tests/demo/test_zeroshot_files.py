import csv
from collections import Counter

from clep.demo.grammar import kinetics_label
from clep.demo.zeroshot_files import charades_pairs, write_charades_classes, write_charades_csv, write_kinetics

_PAIRS = [(verb, noun) for verb in range(30) for noun in range(verb % 5, 40, 6)]


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_kinetics_csv_is_in_the_official_form(tmp_path):
    assert write_kinetics(tmp_path / "val.csv", _PAIRS[:20], 3, seed=0) == 60
    header, *lines = _read(tmp_path / "val.csv")
    assert header == ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    assert Counter(line[0] for line in lines) == {kinetics_label(*pair): 3 for pair in _PAIRS[:20]}
    assert [line[0] for line in lines] != sorted(line[0] for line in lines)
    assert len({line[1] for line in lines}) == 60
    for _, youtube_id, start, end, split, is_cc in lines:
        assert len(youtube_id) == 11
        assert int(end) - int(start) == 10
        assert (split, is_cc in "01") == ("val", True)
    again = tmp_path / "again.csv"
    write_kinetics(again, _PAIRS[:20], 3, seed=0)
    assert again.read_bytes() == (tmp_path / "val.csv").read_bytes()


def test_charades_classes_mix_unseen_and_seen_pairs(tmp_path):
    pairs = charades_pairs(_PAIRS, 157, seed=0)
    assert len(set(pairs)) == 157
    assert sum(pair in set(_PAIRS) for pair in pairs) == 105
    write_charades_classes(tmp_path / "classes.txt", pairs)
    lines = (tmp_path / "classes.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"c{i:03d}" for i in range(157)]
    assert len({line.split(" ", 1)[1] for line in lines}) == 157
    assert sum(" Someone is " in line for line in lines) == 15


def test_charades_csv_is_in_the_official_form(tmp_path):
    assert write_charades_csv(tmp_path / "test.csv", _PAIRS[:50], 60, seed=0) == 120
    header, *lines = _read(tmp_path / "test.csv")
    assert ",".join(header) == (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length,egocentric,charades_video"
    )
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    ids = {row["id"]: row for row in rows}
    assert len(ids) == 120
    unlabelled = 0
    for row in rows:
        first_person = row["id"].endswith("EGO")
        assert (row["egocentric"] == "Yes") == first_person
        assert row["id"].removesuffix("EGO") in ids
        if not row["actions"]:
            unlabelled += 1
            continue
        keys = []
        for item in row["actions"].split(";"):
            key, start, end = item.split(" ")
            assert 0 <= float(start) < float(end) <= float(row["length"]) + 0.01
            assert int(key[1:]) < 50
            keys.append(key)
        assert 4 <= len(keys) <= 8
        other = ids[row["id"].removesuffix("EGO") if first_person else row["id"] + "EGO"]
        assert not other["actions"] or sorted(item.split()[0] for item in other["actions"].split(";")) == sorted(keys)
    assert unlabelled == 2
