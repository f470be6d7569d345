"""CLIP's token ids, as its repository prints them for these sentences, and where each model cuts a long one."""

from pathlib import Path

import pytest

from clep.errors import InputError
from clep.models.published import load_published
from clep.models.published.tokenizers import END, START, ClipTokenizer, clip_clean, siglip_clean
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.tiny_checkpoints import SIZES, args, save

pytest.importorskip("instant_clip_tokenizer", reason="extra `published`, which has no wheels for Python 3.13")


@pytest.mark.parametrize(
    ("sentence", "ids"),
    [
        ("a diagram", [320, 22697]),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("Hello world!", [3306, 1002, 256]),
        ("  A   PHOTO of a\n cat ", [320, 1125, 539, 320, 2368]),
        ("", []),
    ],
)
def test_ids(sentence: str, ids: list[int]) -> None:
    tokens = ClipTokenizer(77, keep_end=True)([sentence])
    assert tokens.ids.shape == (1, 77)
    assert tokens.ids[0].tolist() == [START, *ids, END, *[0] * (75 - len(ids))]
    assert int(tokens.mask.sum()) == len(ids) + 2


def test_a_long_sentence_loses_its_end_token_in_lavila_and_keeps_it_in_avion(tmp_path: Path) -> None:
    sentence = "cat " * 100
    lavila = load_published("lavila", save(tmp_path / "a.pt", tiny.lavila(), args=args()), SIZES).tokenize([sentence])
    avion = load_published("avion", save(tmp_path / "b.pt", tiny.avion(), args=args()), SIZES).tokenize([sentence])
    assert lavila.ids[0, -1] == 2368
    assert lavila.ids[0].argmax() == 0  # so that LaViLa pools at the start token
    assert avion.ids[0, -1] == END
    assert avion.ids[0].argmax() == 76
    assert (lavila.ids[0, :-1] == avion.ids[0, :-1]).all()


def test_special_tokens_in_a_sentence_are_written_in_another_way_in_each_code(tmp_path: Path) -> None:
    lavila = load_published("lavila", save(tmp_path / "a.pt", tiny.lavila(), args=args()), SIZES)
    avion = load_published("avion", save(tmp_path / "b.pt", tiny.avion(), args=args()), SIZES)
    for model, other, text in (
        (lavila, avion, "a <|endoftext|> cat <|startoftext|>"),
        (avion, lavila, "a <end_of_text> cat <START_OF_TEXT>"),
    ):
        assert model.tokenize([text]).ids[0, :6].tolist() == [START, 320, END, 2368, START, END]
        assert START not in other.tokenize([text]).ids[0, 1:].tolist()


@pytest.mark.parametrize(
    ("text", "clip", "siglip"),
    [
        ("Opens &amp;amp; closes", "opens & closes", "opens closes"),
        ("the_fridge's  DOOR.", "the_fridge's door.", "the fridges door"),
        ("âœ” done", "✔ done", "✔ done"),
    ],
)
def test_cleaning(text: str, clip: str, siglip: str) -> None:
    assert clip_clean(text) == clip
    assert siglip_clean(text) == siglip


def test_a_missing_tokenizer_is_reported_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_published(
        "egovlp", save(tmp_path / "a.pth", tiny.egovlp()), SIZES, tokenizer=str(tmp_path / "no_such_folder")
    )
    with pytest.raises(InputError, match=r"no_such_folder cannot be loaded.*tokenizer=FOLDER"):
        model.tokenize(["#C C opens"])
