import pytest

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.preprocess.job import ensure
from clep.preprocess.narrations import EgoClip
from clep.text import Narrations, egovlp_spans

HEADER = "video_uid narration_source narration_ind narration_time clip_start clip_end clip_text tag_verb tag_noun"
ROWS = [
    ("v2", "narration_pass_1", "0", "3.0", "2.0", "4.0", "#C C cuts the onion", "[1]", "[4, 7]"),
    ("v1", "narration_pass_2", "0", "9.5", "9.0", "10.0", '#C C says "stop"', "[]", "[]"),
    ("v1", "narration_pass_1", "0", "0.25", "-0.5", "1.0", "#C C cuts the onion", "[1]", "[7]"),
    ("v1", "narration_pass_1", "1", "5.0", "6.0", "6.0", "#C C waits", "[2]", "[]"),
    ("v1", "narration_pass_1", "2", "6.0", "5.0", "7.0", "", "[]", "[]"),
]


def write(folder, rows=ROWS, header=HEADER):
    lines = ["\t".join(header.split()), *("\t".join(row) for row in rows)]
    (folder / "egoclip.csv").write_text("\n".join(lines) + "\n")


def run(folder, **options):
    options = {"csv": folder / "egoclip.csv", "ego4d_json": None, "text_encoder": "fake", **options}
    return EgoClip(output_folder=folder / "out", **options).run()


def test_spans_verbs_and_nouns_are_read(tmp_path, encoder):
    write(tmp_path)
    coverage = run(tmp_path)
    read = Narrations.open(tmp_path / "out" / "narrations.arrow")
    assert [read.videos[v] for v in read.video] == ["v1", "v1", "v2"]
    assert read.second.tolist() == [0.25, 9.5, 3.0]
    assert read.start_s.tolist() == [0.0, 9.0, 2.0]
    assert read.end_s.tolist() == [1.0, 10.0, 4.0]
    assert read.passes.tolist() == [1, 2, 1]
    assert list(read.texts) == ["Camera wearer cuts the onion", 'Camera wearer says "stop"']
    assert [read.verbs[0], read.verbs[1]] == [[1], []]
    assert [read.nouns[0], read.nouns[1]] == [[4, 7], []]
    assert FeatureBank.open(tmp_path / "out" / "texts.fake.h5").n_rows == 2
    counts = coverage["counts"]
    assert (counts["narrations"], counts["empty"], counts["bad_span"]) == (3, 1, 1)
    assert (counts["texts_with_a_verb"], counts["texts_with_a_verb_and_a_noun"]) == (1, 1)


def test_quoted_texts_and_lines_with_a_wrong_number_of_cells(tmp_path, encoder):
    """As pandas writes them; EgoVLP's reader skips bad lines."""
    write(tmp_path)
    path = tmp_path / "egoclip.csv"
    row = ["v3", "narration_pass_1", "0", "3.0", "2.0", "4.0", '"#C C reads ""stop"""', "[1]", "[4]"]
    header = path.read_text().splitlines()[0].split("\t")
    path.write_text(path.read_text() + "\t".join(row[: len(header)]) + "\ncut\toff\n")
    lines = len(path.read_text().splitlines())
    with pytest.raises(InputError, match=rf"egoclip\.csv, line {lines} has 2 cells"):
        run(tmp_path)
    done = run(tmp_path, on_error="skip")
    assert (done["counts"]["bad_line"], done["counts"]["narrations"]) == (1, 4)
    assert 'Camera wearer reads "stop"' in list(Narrations.open(tmp_path / "out" / "narrations.arrow").texts)


def test_a_second_run_does_nothing_unless_a_setting_changed(tmp_path, encoder, monkeypatch):
    write(tmp_path)
    run(tmp_path)
    assert run(tmp_path)["up_to_date"]
    assert not run(tmp_path, verbs_nouns=False)["up_to_date"]
    assert Narrations.open(tmp_path / "out" / "narrations.arrow").verbs is None


def test_spans_equal_those_computed_from_the_times(tmp_path, encoder):
    """EgoClip's spans follow EgoVLP's rule, so they can be computed from its times and passes."""
    times = {"v1": [1.0, 3.0, 8.0], "v2": [10.0, 11.0]}
    beta = {"v1": 3.5, "v2": 1.0}
    alpha = 2.25
    rows = [
        (
            video,
            "narration_pass_1",
            "0",
            str(t),
            str(max(0.0, t - half)),
            str(t + half),
            f"#C C {video} {t}",
            "[]",
            "[]",
        )
        for video in times
        for half in [beta[video] / (2 * alpha)]
        for t in times[video]
    ]
    write(tmp_path, rows)
    run(tmp_path)
    read = Narrations.open(tmp_path / "out" / "narrations.arrow")
    start_s, end_s = egovlp_spans(read.video, read.passes, read.second)
    assert read.start_s.tolist() == pytest.approx(start_s.tolist())
    assert read.end_s.tolist() == pytest.approx(end_s.tolist())


def test_ensure_runs_the_job_unless_it_would_take_long(tmp_path, encoder):
    write(tmp_path)
    options = {"csv": str(tmp_path / "egoclip.csv"), "output_folder": str(tmp_path / "out"), "text_encoder": "fake"}
    job = {"_target_": "clep.preprocess.narrations.EgoClip", "ego4d_json": None, **options, "device": "cpu"}
    assert ensure([job])[0]["texts"]["counts"]["texts"] == 2
    (tmp_path / "out" / "texts.fake.h5").unlink()
    with pytest.raises(
        InputError, match=r"2 distinct texts are to be encoded without a GPU.*preprocess egoclip .*csv="
    ):
        ensure([job], long_texts=1)


def without(column: str) -> tuple[list[tuple[str, ...]], str]:
    names = HEADER.split()
    place = names.index(column)
    return [row[:place] + row[place + 1 :] for row in ROWS], " ".join(names[:place] + names[place + 1 :])


def changed(column: str, cell: str) -> tuple[list[tuple[str, ...]], str]:
    place = HEADER.split().index(column)
    return [*ROWS[:2], (*ROWS[2][:place], cell, *ROWS[2][place + 1 :])], HEADER


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (without("tag_noun"), r"egoclip\.csv lacks the column 'tag_noun'.*verbs_nouns=false reads one without"),
        (without("clip_end"), r"egoclip\.csv lacks the column 'clip_end'"),
        (changed("clip_start", "soon"), r"egoclip\.csv, line 4: clip_start is 'soon', not a number"),
        (changed("tag_verb", "cut"), r"egoclip\.csv, line 4: tag_verb is 'cut', not a list of ids"),
        (changed("narration_source", "x"), r"egoclip\.csv, line 4: narration_source is 'x'"),
        (changed("video_uid", ""), r"egoclip\.csv, line 4: video_uid is empty"),
        ((ROWS[3:], HEADER), r"holds no narration with a text and a span"),
    ],
)
def test_bad_input(tmp_path, encoder, given, message):
    write(tmp_path, *given)
    with pytest.raises(InputError, match=message):
        run(tmp_path)
    assert not (tmp_path / "out" / "narrations.arrow").exists()
