from pathlib import Path

import pytest
import torch

from clep.data import MomentDataModule
from clep.data.dataset import IndexOnlyDataset
from clep.datasets.ego4d import read_ego4d
from clep.errors import InputError
from clep.text import GroupIds, Narrations, NarrationTable, Taxonomy
from tests.tiny_source import tiny_source, write_tiny_files

VERBS, NOUNS = ("opens", "closes", "takes", "washes"), ("door", "cup", "fridge", "knife", "pan", "tap")


def taxonomy(folder: Path) -> Taxonomy:
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in (("verbs", ["open", "close", "take", "wash"]), ("nouns", NOUNS)):
        lines = [f"{word},['{word}']" for word in words]
        # Every tap is a fixture too, so that a text has one or two nouns.
        lines += ["fixture,\"['tap', 'door']\""] if name == "nouns" else []
        (folder / f"{name}.csv").write_text("label,group\n" + "\n".join(lines) + "\n")
    return Taxonomy(folder / "verbs.csv", folder / "nouns.csv")


def expected(text: str) -> tuple[list[int], list[int]]:
    words = text.split()
    noun = NOUNS.index(words[4])
    return [VERBS.index(words[2])], [noun, 6 if words[4] in ("tap", "door") else -1]


def test_batches_carry_the_groups_of_their_texts(tmp_path: Path) -> None:
    data = MomentDataModule(
        {"tiny": tiny_source(tmp_path, val_fraction=0.28)},
        batch_size=20,
        verb_noun="taxonomy",
        taxonomy=taxonomy(tmp_path),
    )
    data.setup()
    texts = Narrations.open(tmp_path / "narrations.arrow").texts
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert (batch["verb"].dtype, batch["noun"].dtype) == (torch.int64, torch.int64)
        assert batch["verb"].tolist() == [expected(texts[i])[0] for i in batch["text_id"].tolist()]
        assert batch["noun"].tolist() == [expected(texts[i])[1] for i in batch["text_id"].tolist()]
    assert data.report["tiny"]["% of texts with a verb and a noun"] == 100.0


def test_mixed_sources_have_one_width_and_one_numbering(tmp_path: Path) -> None:
    groups = taxonomy(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        write_tiny_files(tmp_path / name, seed=seed)
    sources = {name: tiny_source(tmp_path / name, weight=1.0) for name in ("a", "b")}
    data = MomentDataModule(sources, batch_size=40, verb_noun="taxonomy", taxonomy=groups)
    data.setup()
    texts = [Narrations.open(tmp_path / name / "narrations.arrow").texts for name in ("a", "b")]
    draw = next(iter(data.training_sampler()))
    batch = data.train_set.__getitems__(draw)
    for moment, verb, noun in zip(
        batch["moment"].tolist(), batch["verb"].tolist(), batch["noun"].tolist(), strict=True
    ):
        part, size = int(moment >= len(data.parts[0])), len(data.parts[0])
        text_id = data.parts[part].moments.text_id[moment - part * size]
        assert (verb, noun) == expected(texts[part][text_id])
    late = data.transfer_batch_to_device(IndexOnlyDataset(data.train_set).__getitems__(draw), torch.device("cpu"), 0)
    assert torch.equal(late["noun"], batch["noun"])


def with_given_tags(folder: Path) -> None:
    """Write the tiny files again with ids of verbs and nouns in them."""
    write_tiny_files(folder)
    table = read_ego4d(folder / "narration.json")
    found = [expected(text) for text in table.texts]
    verbs = GroupIds.of(verb for verb, _ in found)
    nouns = GroupIds.of([100 + n for n in noun if n >= 0] for _, noun in found)
    NarrationTable(**{**vars(table), "verbs": verbs, "nouns": nouns}).write(folder / "narrations.arrow")


def test_numbers_that_narrations_came_with(tmp_path: Path) -> None:
    with_given_tags(tmp_path)
    data = MomentDataModule({"tiny": tiny_source(tmp_path)}, batch_size=20, verb_noun="given")
    data.setup()
    texts = Narrations.open(tmp_path / "narrations.arrow").texts
    for batch in data.train_dataloader():
        nouns = [[100 + n if n >= 0 else -1 for n in expected(texts[i])[1]] for i in batch["text_id"].tolist()]
        assert batch["noun"].tolist() == nouns


def test_tags_that_fit_no_text_are_refused_and_few_cause_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(nouns: list[str]) -> None:
        groups = taxonomy(tmp_path)
        (tmp_path / "nouns.csv").write_text("label,group\n" + "\n".join(f"{word},['{word}']" for word in nouns) + "\n")
        MomentDataModule({"tiny": tiny_source(tmp_path)}, batch_size=20, verb_noun="taxonomy", taxonomy=groups).setup()

    with pytest.raises(InputError, match=r"data\.verb_noun=taxonomy: none of the \d+ texts .* in the language of the"):
        opened(["Tür", "Tasse"])
    opened(["pan", "Tasse"])
    assert [
        record.levelname
        for record in caplog.records
        if "the others have equal texts as their only positives" in record.message
    ]


def test_without_verb_noun_ids_a_batch_has_no_such_keys(tmp_path: Path) -> None:
    data = MomentDataModule({"tiny": tiny_source(tmp_path)}, batch_size=20)
    data.setup()
    assert not {"verb", "noun"} & set(next(iter(data.train_dataloader())))


def test_missing_verb_noun_ids_are_refused(tmp_path: Path) -> None:
    data = MomentDataModule({"tiny": tiny_source(tmp_path)}, batch_size=20, verb_noun="given")
    with pytest.raises(
        InputError, match=r"data\.sources\.tiny has no verb and noun ids.*egoclip.* data\.verb_noun=taxonomy"
    ):
        data.setup()
    data = MomentDataModule({"tiny": tiny_source(tmp_path)}, batch_size=20, verb_noun="taxonomy")
    with pytest.raises(InputError, match=r"data\.verb_noun=taxonomy needs data\.taxonomy"):
        data.setup()
    sources = {name: tiny_source(tmp_path, weight=1.0) for name in ("a", "b")}
    data = MomentDataModule(sources, batch_size=20, verb_noun="given")
    with pytest.raises(InputError, match=r"several data\.sources \(a, b\): .* of different csv files"):
        data.setup()
