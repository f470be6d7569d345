from dataclasses import fields, replace

import pytest
from omegaconf import OmegaConf

from clep.bank import Clock
from clep.config.folder import config_folder
from clep.errors import InputError
from clep.extraction import Extraction
from clep.extraction.regions import RegionExtraction
from clep.extraction.spans import SpanExtraction
from clep.preprocess.clip_views import ViewExtraction
from tests.composing import compose_train
from tests.extraction.conftest import FAKE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("default", Extraction), ("regions", RegionExtraction), ("clips", SpanExtraction)),
        ("clip_views", ViewExtraction),
    ],
)
def test_the_config_and_the_class_have_the_same_defaults(name, kind):
    config = OmegaConf.to_container(OmegaConf.load(config_folder() / "extraction" / f"{name}.yaml"))
    del config["defaults"]
    declared = {field.name: field.default for field in fields(kind)}
    assert config == {key: declared[key] for key in config}
    if kind is Extraction:  # the others leave out what they do not read
        assert set(config) == set(declared) - {"encoder", "compute"}


def test_evaluation_videos_are_encoded_like_the_ego4d_videos_without_a_selection():
    chosen = ["limit=3", "ids=[a]", "shard=0/2"]
    asked = [*chosen, "clip_batch=3", "encoder.crop_px=64", "compute.processes=5", "stride=8"]
    words = [f"prepare.ego4d_videos.extraction.{word}" for word in asked]
    prepare = compose_train("experiment=demo_video", "paths.run=x", *words).prepare
    names = ("ego4d_videos", "kinetics", "ego_charades")
    jobs = {name: OmegaConf.to_container(prepare[name].extraction, resolve=True) for name in names}
    everything = jobs["ego4d_videos"] | {"limit": None, "ids": None, "shard": None}
    assert jobs["ego4d_videos"]["limit"] == 3
    assert jobs["kinetics"] == jobs["ego_charades"] == everything
    assert list(jobs["kinetics"]) == list(everything)


def test_the_key_depends_only_on_settings_that_the_rows_depend_on():
    usual = Extraction(encoder=FAKE)
    key = usual.key("float16")
    for same in ({"limit": 3}, {"n_shards": 2}, {"decode_threads": 1}, {"segments": 9}, {"compute": FAKE}):
        assert replace(usual, **same).key("float16") == key, same
    others = [{"stride": 8}, {"rate": 15.0}, {"crops": "ten"}, {"clip_batch": 4}, {"precision": "bf16"}]
    others += [{"t0": "first_frame"}, {"encoder": {**FAKE, "frames": 2}}, {"sampling": "segments"}]
    others += [{"compile": True}, {"channels_last": True}, {"transform_on_device": True}]
    keys = {replace(usual, **other).key("float16") for other in others} | {usual.key("float32"), key}
    assert len(keys) == len(others) + 2


@pytest.mark.parametrize("kind", [Extraction, SpanExtraction, RegionExtraction, ViewExtraction])
def test_options_that_change_rows_by_rounding_are_in_the_key_of_every_kind(kind):
    key = kind(encoder=FAKE).key("float16")
    assert kind(encoder=FAKE, compile=True).key("float16") != key
    assert kind(encoder=FAKE, channels_last=True).key("float16") != key


def test_the_key_without_such_options_is_that_of_earlier_banks():
    assert not {"compile", "channels_last", "transform_on_device"} & Extraction(encoder=FAKE).cache_key_fields().keys()
    assert Extraction(encoder=FAKE).acceleration() == {}


@pytest.mark.parametrize("kind", [RegionExtraction, ViewExtraction])
def test_pixels_of_regions_and_views_are_prepared_on_the_host(kind):
    with pytest.raises(InputError, match="transform_on_device=true is for whole videos and spans"):
        kind(encoder=FAKE, transform_on_device=True)


def test_clocks():
    assert Extraction(encoder=FAKE).clock() == Clock()
    assert Extraction(encoder=FAKE, window=8, stride=4, rate=8).clock() == Clock(2.0, 1.0)
    assert Extraction(encoder=FAKE, sampling="segments").clock() == Clock.irregular(0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_batch": 0}, "clip_batch=0"),
        ({"n_shards": 0}, "n_shards=0"),
        ({"sampling": "denser"}, "sampling"),
        ({"stride": 1.5}, "stride"),
        ({"shard": "4/4"}, "shard"),
        ({"encoder": {"_target_": "clep.video.encoders.Nothing"}}, "Nothing"),
        ({"encoder": {**FAKE, "weight": 3}}, "weight"),
        ({"compute": {"_target_": "clep.compute.Local", "procesess": 3}}, r"procesess.*processes"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Extraction.of({"encoder": FAKE} | options)
