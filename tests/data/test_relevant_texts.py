"""Moments paired with other sentences that are relevant for them."""

from pathlib import Path

import pytest
import torch

from clep.data import Draw, MomentDataModule
from clep.errors import InputError
from clep.losses import RelevancyPositives
from tests.data.test_text_tags import taxonomy
from tests.tiny_source import tiny_source, write_tiny_files


def test_texts_are_drawn_anew_and_the_classes_of_the_clip_stay(tmp_path: Path) -> None:
    data = MomentDataModule(
        {"tiny": tiny_source(tmp_path, val_fraction=0.28)},
        batch_size=40,
        verb_noun="taxonomy",
        taxonomy=taxonomy(tmp_path),
        relevant_texts=0.1,
    )
    data.setup()
    train, val = data.train_set, data.val_set
    assert train is not None
    assert val is not None
    moments = next(iter(data.train_dataloader()))["moment"]
    one, other = (train.__getitems__(Draw(moments, seed)) for seed in (5, 6))
    own = torch.from_numpy(train.moments.text_id)[moments]
    for batch in (one, other):
        for key in ("verb", "noun"):
            torch.testing.assert_close(batch[f"video_{key}"], train.verb_noun_ids[key][own].long())
            torch.testing.assert_close(batch[key], train.verb_noun_ids[key][batch["text_id"]].long())
        torch.testing.assert_close(batch["text"], train.texts.take(batch["text_id"]))
    assert (one["text_id"] != own).float().mean() > 0.3
    assert (one["text_id"] != other["text_id"]).any()
    keys = {**RelevancyPositives().of_batch(one), "position": torch.arange(len(own))}
    assert (RelevancyPositives()(keys, keys).diagonal()[one["text_id"] != own] > 0.1).all()
    assert "video_verb" not in val.__getitems__([0, 1])


def test_they_need_verbs_and_nouns(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    with pytest.raises(InputError, match="data.relevant_texts compares verbs and nouns: set data.verb_noun=given"):
        MomentDataModule({"tiny": tiny_source(tmp_path)}, relevant_texts=0.1)
