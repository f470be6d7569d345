import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

import clep
from clep.answers import Hit, Moment
from clep.bank import BankWriter, Clock, FeatureBank
from clep.datasets.narrations_near import NarrationsNear
from clep.errors import InputError
from clep.files import read_json, write_json
from clep.models import DualEncoder
from clep.pretrained import PretrainedModel
from tests.tiny_source import TEXT_DIM, VIDEO_DIM, write_tiny_files
from tests.training.tiny_run import tiny_data, tiny_model, tiny_module, tiny_trainer

METADATA = {
    "sentence_encoder": "fake",
    "tag_style": "clean",
    "bank_encoder": "tiny",
    "window": {"align": "centre", "pool": "mean", "max_rows": 16, "sample": "uniform"},
}


class FakeEncoder:
    """Sentences to vectors by their hash; records the texts."""

    made: ClassVar[list["FakeEncoder"]] = []

    def __init__(self, name: str, device: str | None = None) -> None:
        self.name, self.device, self.encoded = name, device, []
        self.made.append(self)

    def encode(self, texts: list[str]) -> np.ndarray:
        self.encoded += texts
        return np.stack([vector(text) for text in texts]) if texts else np.empty((0, TEXT_DIM), np.float32)


def vector(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    return np.random.default_rng(seed).standard_normal(TEXT_DIM).astype(np.float32)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeEncoder]:
    FakeEncoder.made = []
    monkeypatch.setattr("clep.pretrained.load_sentence_encoder", FakeEncoder)
    return FakeEncoder


def trained(**metadata: Any) -> DualEncoder:
    model = tiny_model().eval()
    model.metadata = {**METADATA, **metadata}
    return model


def saved(folder: Path, **metadata: Any) -> DualEncoder:
    model = trained(**metadata)
    model.save_pretrained(folder)
    return model


def same(one: DualEncoder, other: DualEncoder) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, clep; heavy = {'torch', 'pytorch_lightning', 'h5py', 'hydra'} & set(sys.modules); "
        "assert not heavy, heavy; assert 'load' in dir(clep); assert clep.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_do_not_exist() -> None:
    assert clep.load is clep.pretrained.load
    with pytest.raises(AttributeError, match="'lode'"):
        _ = clep.lode


@pytest.mark.parametrize("where", ["", "model"])
def test_from_a_model_folder_and_from_a_run(tmp_path: Path, where: str) -> None:
    model = saved(tmp_path / where)
    for path in (tmp_path, str(tmp_path)):
        loaded = clep.load(path, device="cpu")
        assert same(loaded.encoder, model)
        assert loaded.encoder.metadata == METADATA
        assert not loaded.encoder.training


def test_from_a_checkpoint_of_a_run(tmp_path: Path) -> None:
    module = tiny_module()
    module.model.metadata = dict(METADATA)
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=tiny_data(tmp_path / "files"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = clep.load(tmp_path / "a.ckpt", device="cpu")
    assert same(loaded.encoder, module.model)
    assert not same(loaded.encoder, tiny_model())
    assert loaded.encoder.metadata == METADATA
    assert loaded.window.align == "centre"
    loaded.encoder.save_pretrained(tmp_path / "shared")
    assert same(clep.load(tmp_path / "shared").encoder, module.model)


def test_texts_are_embedded_as_the_model_was_trained_to_see_them(tmp_path: Path) -> None:
    model = saved(tmp_path)
    loaded = clep.load(tmp_path, device="cpu")
    texts = ["#C C opens the fridge", "washes a #unsure", "closes the door"]
    found = loaded.embed_text(texts, batch_size=2)
    written = ["Camera wearer opens the fridge", "washes a something", "closes the door"]
    expected = model.encode_text({"text": torch.from_numpy(np.stack([vector(text) for text in written]))})
    torch.testing.assert_close(found, expected.detach())
    assert found.dtype == torch.float32
    assert not found.requires_grad
    loaded.embed_text(["again"])
    assert [(made.name, made.device, len(made.encoded)) for made in FakeEncoder.made] == [("fake", "cpu", 4)]
    assert len(loaded.embed_text([])) == 0


def test_the_tutorials_tags_stay_the_tutorials(tmp_path: Path) -> None:
    saved(tmp_path, tag_style="tutorial")
    clep.load(tmp_path).embed_text(["#C C opens"])
    assert FakeEncoder.made[0].encoded == ["Camera wearer C opens"]


def test_texts_need_a_list_and_a_known_encoder() -> None:
    with pytest.raises(TypeError, match=r"list of sentences|list\[str\]"):
        PretrainedModel(trained(), "cpu").embed_text("opens the door")
    with pytest.raises(InputError, match="which sentence encoder"):
        PretrainedModel(trained(sentence_encoder=""), "cpu").embed_text(["opens the door"])


@pytest.fixture
def bank(tmp_path: Path) -> FeatureBank:
    write_tiny_files(tmp_path / "files", videos=3)
    return FeatureBank.open(tmp_path / "files" / "bank.h5")


@pytest.mark.parametrize("align", ["centre", "start"])
def test_moments_are_embedded_as_the_model_applied_by_hand(bank: FeatureBank, align: str) -> None:
    model = trained(window={**METADATA["window"], "align": align})
    starts, ends = [0.0, 10.3, 55.0], [2.0, 14.3, 70.0]
    found = PretrainedModel(model, "cpu").embed_video(bank, ["v02", "v00", "v01"], starts, ends, batch_size=2)
    for index, (video, start_s, end_s) in enumerate(zip(["v02", "v00", "v01"], starts, ends, strict=True)):
        rows = bank.video_rows(video)
        first, last = Clock().window(start_s, end_s, len(rows), 60.0, align=align)
        expected = model.encode_video({"video": rows[first:last].mean(0, keepdim=True)})[0]
        torch.testing.assert_close(found[index], expected.detach())
    one = PretrainedModel(model, "cpu").embed_video(bank, "v00", 10.3, 14.3)
    torch.testing.assert_close(one, found[1:2])
    tensors = PretrainedModel(model, "cpu").embed_video(bank, "v00", torch.tensor([10.3]), torch.tensor([14.3]))
    torch.testing.assert_close(tensors, found[1:2])


def test_a_model_of_sequences_gets_rows_with_a_mask(bank: FeatureBank) -> None:
    window = {"align": "centre", "pool": "rows", "max_rows": 5, "sample": "random"}
    loaded = PretrainedModel(trained(window=window), "cpu")
    seen: list[dict[str, torch.Tensor]] = []
    encode = loaded.encoder.encode_video
    loaded.encoder.encode_video = lambda batch: (seen.append(batch), encode(batch))[1]
    first = loaded.embed_video(bank, "v00", [3.0, 3.0], [4.0, 30.0])
    assert seen[0]["video"].shape == (2, 5, VIDEO_DIM)
    assert seen[0]["video_mask"].sum(1).tolist() == [2, 5]
    torch.testing.assert_close(first, loaded.embed_video(bank, "v00", [3.0, 3.0], [4.0, 30.0]))


def test_moments_that_cannot_be_embedded_are_refused(bank: FeatureBank) -> None:
    loaded = PretrainedModel(trained(), "cpu")
    with pytest.raises(InputError, match=r"bank\.h5 has no rows of video"):
        loaded.embed_video(bank, ["v00", "elsewhere"], [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(InputError, match="ends before it starts"):
        loaded.embed_video(bank, "v00", 3.0, 1.0)
    with pytest.raises(InputError, match="2 videos, 1 starts and 1 ends"):
        loaded.embed_video(bank, ["v00", "v01"], 1.0, 3.0)
    with pytest.raises(InputError, match="'omnivore'.*'tiny'"):
        PretrainedModel(trained(bank_encoder="omnivore"), "cpu").embed_video(bank, "v00", 1.0, 3.0)
    assert len(loaded.embed_video(bank, [], [], [])) == 0


def identity_model() -> PretrainedModel:
    tower = {"_target_": "torch.nn.Identity"}
    return PretrainedModel(DualEncoder.from_config({"video": tower, "text": tower, "metadata": METADATA}), "cpu")


@pytest.fixture
def planted(tmp_path: Path) -> FeatureBank:
    """Noise, and in one video five seconds that look like a sentence, in another one and a half."""
    random = np.random.default_rng(3)
    with BankWriter(tmp_path / "planted.h5", TEXT_DIM, Clock(2.0, 0.5), "float32", encoder="tiny") as writer:
        for video, length_s in (("a", 40.0), ("b", 31.5), ("c", 2.0)):
            rows = random.standard_normal((int(length_s * 2), TEXT_DIM)).astype(np.float32)
            if video == "b":
                rows[40:50] = 2 * vector("opens the fridge")
            if video == "a":
                rows[20:23] = 2 * vector("opens the fridge")
            writer.add(video, rows, duration_s=length_s)
    return FeatureBank.open(tmp_path / "planted.h5")


def test_search_finds_a_planted_moment_first(planted: FeatureBank) -> None:
    first, second, *_ = identity_model().search(planted, "opens the fridge", top=5)
    assert (first.video, first.start_s, first.end_s) in {("b", 20.0, 24.0), ("b", 21.0, 25.0)}
    assert first.score == pytest.approx(1.0, abs=5e-4)
    assert second.video == "a"
    assert second.start_s <= 10.0
    assert second.end_s >= 11.5


def search_by_hand(bank: FeatureBank, text: str, top: int, window_s: float, stride_s: float) -> list[Hit]:
    """Slide a window over each video, compare its mean, take the best and strike out what it overlaps."""
    moments = []
    for video, length_s in zip(bank.videos, bank.duration_s.tolist(), strict=True):
        rows, start_s = bank.video_rows(video), 0.0
        while start_s < max(length_s - window_s / 2, stride_s / 2):
            end_s = min(start_s + window_s, length_s)
            first, last = Clock(2.0, 0.5).window(start_s, end_s, len(rows), length_s)
            mean = normalize(rows[first:last].mean(0), dim=0).half().float()  # as the index holds it
            score = cosine_similarity(mean, torch.from_numpy(vector(text)), dim=0)
            moments.append(Hit(video, start_s, end_s, float(score)))
            start_s += stride_s
    hits: list[Hit] = []
    for moment in sorted(moments, key=lambda hit: -hit.score):
        overlaps = [
            h for h in hits if h.video == moment.video and h.start_s < moment.end_s and moment.start_s < h.end_s
        ]
        if not overlaps and len(hits) < top:
            hits.append(moment)
    return hits


@pytest.mark.parametrize(
    ("top", "window_s", "stride_s"), [(3, 4.0, 1.0), (100, 4.0, 1.0), (100, 5.0, 2.5), (4, 90.0, 1.0)]
)
def test_search_equals_a_loop(planted: FeatureBank, top: int, window_s: float, stride_s: float) -> None:
    hits = identity_model().search(planted, "opens the fridge", top, window_s, stride_s)
    expected = search_by_hand(planted, "opens the fridge", top, window_s, stride_s)
    assert [(hit.video, hit.start_s, hit.end_s) for hit in hits] == [(h.video, h.start_s, h.end_s) for h in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=5e-4)
    for index, hit in enumerate(hits):
        assert 0 <= hit.start_s < hit.end_s <= planted.duration_s[planted.videos.index(hit.video)]
        assert not any(h.video == hit.video and h.start_s < hit.end_s and hit.start_s < h.end_s for h in hits[:index])
    assert top < 4 or {hit.video for hit in hits} == {"a", "b", "c"}


def test_a_bank_is_indexed_once_for_many_searches(planted: FeatureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, calls = identity_model(), []
    embed = loaded._embed_moments
    monkeypatch.setattr(loaded, "_embed_moments", lambda *args: (calls.append(1), embed(*args))[1])
    for text in ("opens the fridge", "closes it", "opens the fridge"):
        loaded.search(planted, text)
    assert len(calls) == 1
    loaded.search(planted, "opens the fridge", window_s=2.0)
    assert len(calls) == 2
    other = identity_model()
    monkeypatch.setattr(
        other, "_embed_moments", lambda *_: pytest.fail("the file beside the bank serves all processes")
    )
    assert other.search(planted, "opens the fridge") == loaded.search(planted, "opens the fridge")


def test_search_can_keep_to_some_videos(planted: FeatureBank) -> None:
    loaded = identity_model()
    everywhere = loaded.search(planted, "opens the fridge", top=100)
    assert loaded.search(planted, "opens the fridge", top=100, videos=["a"]) == [
        h for h in everywhere if h.video == "a"
    ]
    assert loaded.search(planted, "opens the fridge", top=100, videos=[]) == []


def test_similarity_over_time_peaks_where_the_moment_is(planted: FeatureBank) -> None:
    loaded = identity_model()
    seconds, scores = loaded.similarity(planted, "opens the fridge", "b", window_s=3.0, stride_s=0.5)
    assert 21.0 <= float(seconds[scores.argmax()]) <= 24.0
    rows, query = planted.video_rows("b"), torch.from_numpy(vector("opens the fridge"))
    for index, middle in enumerate(seconds.tolist()):
        start_s, end_s = 0.5 * index, min(0.5 * index + 3.0, 31.5)
        assert middle == pytest.approx((start_s + end_s) / 2)
        first, last = Clock(2.0, 0.5).window(start_s, end_s, len(rows), 31.5)
        expected = cosine_similarity(rows[first:last].mean(0), query, dim=0)
        assert float(scores[index]) == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(InputError, match=r"planted\.h5 has no rows of video 'z'"):
        loaded.similarity(planted, "a", "z")
    with pytest.raises(InputError, match="stride_s=0"):
        loaded.similarity(planted, "a", "a", stride_s=0)


def test_a_moment_and_a_row_find_others_like_them(planted: FeatureBank) -> None:
    """As a search by their embedding; hits on the query itself are left out."""
    loaded = identity_model()
    moment = Moment("b", 20.0, 24.0)
    hits = loaded.search(planted, moment, top=4)
    assert len(hits) == 4
    assert not any(hit.video == "b" and hit.start_s < 24 and hit.end_s > 20 for hit in hits)
    index = loaded.index(planted)
    embedded = normalize(loaded.embed_video(planted, *moment), dim=-1)[0]
    found, scores = index.search(embedded, 8)
    others = [
        (planted.videos[video], start, score)
        for video, start, end, score in zip(*index.grid.spans(found), scores, strict=True)
        if not (planted.videos[video] == "b" and start < 24 and end > 20)
    ]
    assert [(hit.video, hit.start_s) for hit in hits] == [other[:2] for other in others[:4]]
    assert [hit.score for hit in hits] == pytest.approx([other[2] for other in others[:4]])
    row = int(planted.first_row[planted.videos.index("b")]) + 43
    assert loaded.search(planted, row, top=4) == loaded.search(planted, ("b", 21.5, 22.0), top=4)


def test_several_sentences_are_averaged_and_hits_hold_narrations(planted: FeatureBank, tmp_path: Path) -> None:
    loaded = identity_model()
    texts = ["opens the fridge", "closes it"]
    mean = loaded.search(planted, texts, top=1, videos=["b"])[0]
    each = [float(loaded.similarity(planted, text, "b")[1][int(mean.start_s)]) for text in texts]
    assert mean.score == pytest.approx(np.mean(each), abs=5e-4)
    (tmp_path / "n.csv").write_text("video,time,text\nb,21,early\nb,22.4,near\nb,3,far\na,10,other video\n")
    hits = loaded.search(planted, "opens the fridge", top=3, narrations=tmp_path / "n.csv")
    assert {hit.text for hit in hits if hit.video == "b" and hit.start_s in (20.0, 21.0)} == {"near"}
    assert all(hit.text == "" for hit in loaded.search(planted, "opens the fridge"))
    (tmp_path / "n.csv").write_text("video,start,end,text\nb,17,21.4,less\nb,21,40,more\nb,1,2,far\n")
    near = NarrationsNear(tmp_path / "n.csv")
    assert [near.text("b", *span) for span in ((20.0, 24.0), (18.0, 22.0), (0.0, 1.0), (1.5, 3.0))] == [
        "more",
        "less",
        "",
        "far",
    ]
    assert near.text("z", 0.0, 1.0) == ""


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "give a sentence"),
        ([], "give a sentence"),
        (("bb", 1.0, 2.0), r"has no rows of video 'bb' \(1 such\)"),
        (100_000, "there is no row 100000"),
        (-1, "there is no row -1"),
    ],
)
def test_queries_that_are_none(planted: FeatureBank, query: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        identity_model().search(planted, query)


CLASSES = ["opens the fridge", "washes a cup", "cuts"]


def test_videos_and_windows_are_classified(planted: FeatureBank, tmp_path: Path) -> None:
    """Against a loop over windows and classes."""
    loaded = identity_model()
    vectors = [normalize(torch.from_numpy(vector(f"a {name}")), dim=0) for name in CLASSES]
    found = loaded.classify(planted, CLASSES, "a {}", window_s=4, stride_s=2, batch_size=7)
    assert found.scores.shape == (len(found), 3)
    for moment, scores in zip(found.moments, found.scores, strict=True):
        rows = planted.video_rows(moment.video)
        end_s = float(planted.duration_s[planted.videos.index(moment.video)])
        first, last = Clock(2.0, 0.5).window(moment.start_s, moment.end_s, len(rows), end_s)
        mean = rows[first:last].mean(0)
        expected = torch.stack([cosine_similarity(mean, one, dim=0) for one in vectors])
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert {moment.video for moment in found.moments} == {"a", "b", "c"}
    best = found.scores.argmax(1).tolist()
    assert found.labels == [CLASSES[index] for index in best]
    assert found.top(2)[0][0] == (found.labels[0], pytest.approx(float(found.scores[0].max())))
    scale = float(loaded.encoder.logit_scale.detach())
    torch.testing.assert_close(found.probabilities, (found.scores * scale).softmax(1))
    frame = found.to_frame()
    assert frame["label"].tolist() == found.labels
    assert list(frame.columns) == ["video", "start_s", "end_s", "label", *CLASSES]

    whole = loaded.classify(planted, CLASSES, videos=["c", "a"])
    assert [moment.video for moment in whole.moments] == ["c", "a"]
    mean = planted.video_rows("c").mean(0)
    assert float(whole.scores[0, 1]) == pytest.approx(
        float(cosine_similarity(mean, torch.from_numpy(vector("washes a cup")), dim=0)), abs=1e-5
    )
    (tmp_path / "templates.txt").write_text("a {}\nthe {}\n")
    several = loaded.classify(planted, CLASSES, tmp_path / "templates.txt", moments=[("b", 20, 24)])
    pair = [normalize(torch.from_numpy(vector(f"{word} cuts")), dim=0) for word in ("a", "the")]
    rows = loaded.embed_video(planted, "b", 20, 24)[0]
    assert float(several.scores[0, 2]) == pytest.approx(
        float(cosine_similarity(rows, pair[0] + pair[1], dim=0)), abs=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, "at least one name, and each name once"),
        ({"classes": ["a", "a"]}, "each name once"),
        ({"classes": ["a"], "templates": "video"}, r"the template 'video' must have \{\} once"),
        ({"classes": ["a"], "videos": ["z"]}, "has no rows of video 'z'"),
        ({"classes": ["a"], "moments": [("z", 1, 2)]}, "has no rows of video 'z'"),
        ({"classes": ["a"], "window_s": 0}, "window_s=0"),
    ],
)
def test_what_cannot_be_classified_is_refused(planted: FeatureBank, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        identity_model().classify(planted, **options)
    with pytest.raises(TypeError, match="list of class names"):
        identity_model().classify(planted, "cuts")
    loaded = identity_model()
    loaded.encoder.metadata["bank_dim"] = 768
    with pytest.raises(InputError, match="dimension 768"):
        loaded.classify(planted, ["cuts"])


def test_search_refuses_what_it_cannot_search(planted: FeatureBank, tmp_path: Path) -> None:
    loaded = identity_model()
    for wrong in ({"window_s": 0.0}, {"stride_s": -1.0}, {"top": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
            loaded.search(planted, "a", **wrong)
    loaded.encoder.metadata["bank_encoder"] = "omnivore"
    with pytest.raises(InputError, match="'omnivore'.*'tiny'"):
        loaded.search(planted, "a")
    with BankWriter(tmp_path / "texts.h5", TEXT_DIM, None) as writer:
        writer.add("texts", np.ones((2, TEXT_DIM), np.float32))
    with pytest.raises(InputError, match="has no clock"):
        identity_model().search(FeatureBank.open(tmp_path / "texts.h5"), "a")


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$CLEP_TEST_CANARY"',)


def checkpoint(**changes: Any) -> dict[str, Any]:
    model = trained()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    return {"clep": {"model": model.config, "metadata": METADATA}, "state_dict": state, **changes}


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEP_TEST_CANARY", str(tmp_path / "canary"))
    torch.save(checkpoint(extra=RunsCode()), tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt cannot be read as a checkpoint"):
        clep.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "canary").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)  # it would have run
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    torch.save(checkpoint(), tmp_path / "a.ckpt")
    content = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\.ckpt cannot be read .*truncated"):
        clep.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "target",
    ["os.system", "builtins.eval", "subprocess.Popen", "clep.config.build.importlib", "torch.load"],
)
def test_a_config_that_names_other_code_is_refused(tmp_path: Path, target: str) -> None:
    saved(tmp_path / "model")
    config = read_json(tmp_path / "model" / "config.json")
    config.pop("config_digest", None)  # as a stranger would
    config["model"]["video"] = {"_target_": target, "command": f"touch {tmp_path / 'canary'}"}
    write_json(tmp_path / "model" / "config.json", config)
    with pytest.raises(InputError, match=r"config\.json: model\.video\._target_.*not allowed"):
        clep.load(tmp_path)
    torch.save(checkpoint(clep={"model": config["model"], "metadata": {}}), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt: model\.video\._target_.*not allowed"):
        clep.load(tmp_path / "a.ckpt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "changes", [{"clep": None}, {"clep": 3}, {"clep": {}}, {"clep": {"model": None}}, {"state_dict": None}]
)
def test_a_checkpoint_of_other_software_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch.save(checkpoint(**changes), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt is not a checkpoint of clep"):
        clep.load(tmp_path / "a.ckpt")
    torch.save([1, 2], tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt is not a checkpoint"):
        clep.load(tmp_path / "a.ckpt")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    content = checkpoint()
    content["state_dict"]["model.video.0.weight"] = torch.zeros(99, VIDEO_DIM)
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt do not fit the architecture(.|\n)*video\.0\.weight"):
        clep.load(tmp_path / "a.ckpt")


def test_a_folder_without_a_model_is_refused_and_its_checkpoints_listed(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="is not a trained model"):
            clep.load(path)
    (tmp_path / "checkpoints").mkdir()
    torch.save(checkpoint(), tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(InputError, match=r"did not end, but left .*checkpoints/last\.ckpt"):
        clep.load(tmp_path)


@pytest.mark.parametrize("operator", ["FBONonLocal", "FBOAvg", "FBOMax"])
@pytest.mark.parametrize("pool", ["rows", "mean", "max"])
def test_contexts_that_moments_share_are_those_of_each(bank: FeatureBank, operator: str, pool: str) -> None:
    """As the tower applied by hand to `bank.long_term`, one moment at a time, whatever their order."""
    operator_config = {"_target_": f"clep.models.{operator}", "in_dim": VIDEO_DIM, "latent_dim": 8}
    tower = {"_target_": "clep.models.LongTermTower", "in_dim": VIDEO_DIM, "out_dim": 4, "operator": operator_config}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": TEXT_DIM, "out_dim": 4}
    context = {"window_s": 20, "per_second": 1, "sample": "random", "pool": pool}
    model = DualEncoder.from_config({"video": tower, "text": text, "metadata": {**METADATA, "context": context}}).eval()
    for parameter in model.video.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    starts = torch.cat([torch.arange(0, 55, 0.25), torch.tensor([3.0, 50.0, 90.0])]).double()
    videos = ["v00"] * 100 + ["v01"] * 120 + ["v02", "v00", "v01"]  # the last one starts after its video's end
    found = PretrainedModel(model, "cpu").embed_video(bank, videos, starts, starts + 2)
    number = bank.index(videos)
    first, last = bank.window(number, starts, starts + 2)
    for i in range(0, len(videos), 3):
        one = {"video": bank.mean(first[i], last[i])}
        rows, mask = bank.long_term(number[i], starts[i] + 1, 20, 1)
        if pool != "rows":
            reduced = rows[mask].mean(0) if pool == "mean" else rows[mask].amax(0) if mask.any() else rows[0, 0]
            rows, mask = torch.where(mask.any(), reduced, 0.0)[None, None], mask.any(1, keepdim=True)
        expected = model.encode_video(one | {"context": rows, "context_mask": mask})[0]
        torch.testing.assert_close(found[i], expected.detach(), rtol=1e-4, atol=1e-5)
