import pytest
from torch import nn

from clep.config.build import build, build_module, call
from clep.errors import InputError

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 4}


def test_builds_a_tree():
    layer = {"_target_": "torch.nn.TransformerEncoderLayer", "d_model": 8, "nhead": 2, "batch_first": True}
    layer = build({"_target_": "torch.nn.TransformerEncoder", "num_layers": 2, "encoder_layer": layer})
    assert isinstance(layer, nn.TransformerEncoder)
    assert len(layer.layers) == 2


def test_lists_and_plain_dicts_are_entered():
    modules = build({"_target_": "torch.nn.ModuleList", "modules": [LINEAR, LINEAR]})
    assert [type(module) for module in modules] == [nn.Linear, nn.Linear]
    modules = build({"_target_": "torch.nn.ModuleDict", "modules": {"a": LINEAR}})
    assert isinstance(modules["a"], nn.Linear)


def test_keywords_win_and_are_passed_as_they_are():
    assert build(LINEAR, out_features=9).out_features == 9
    head = build({"_target_": "clep.models.DualEncoder", "text": LINEAR}, video=nn.Identity())
    assert isinstance(head.video, nn.Identity)


def test_functions_and_classmethods_of_allowed_modules():
    loss = {"_target_": "clep.losses.ClipLoss"}
    assert build({"_target_": "clep.losses.across_ranks", "loss": loss, "form": "local"}).form == "local"
    config = {"video": LINEAR, "text": LINEAR}
    model = build({"_target_": "clep.models.DualEncoder.from_config"}, config=config)
    assert model.config == config


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "eval",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.nn",
        "clep",
        "clepx.models.DualEncoder",
        "torch.nnx.Linear",
        "clep.files.os.system",
        "clep.files.os.remove",
        "clep.files.Path",
        "clep.files.json.loads",
        "clep.config.build.importlib.import_module",
        "clep.losses.clip.torch.load",
        "clep.losses.clip.torch.nn.functional.torch.load",
        "clep.models.DualEncoder.__init__.__globals__",
        "clep.models.DualEncoder.__class__",
        "clep.config.build._resolve",
        "torch.nn.modules.module.torch.load",
        "torch.nn.Linear.load_state_dict.__globals__",
        "clep..files",
        "clep.models.",
        "torch.nn.functional.relu_",
        "clep.config.build.ALLOWED",
    ],
)
def test_everything_else_is_refused(name):
    with pytest.raises(InputError, match=r"^_target_: .*(not allowed|does not exist)"):
        build({"_target_": name})


def test_modules_only():
    assert isinstance(build_module(LINEAR), nn.Linear)
    with pytest.raises(InputError, match=r"model.video._target_: clep.files.write_json is not an nn.Module"):
        build_module({"_target_": "clep.files.write_json", "path": "x", "value": 1}, "model.video")
    nested = {"_target_": "torch.nn.ModuleList", "modules": [{"_target_": "clep.files.read_json", "path": "x"}]}
    with pytest.raises(InputError, match=r"^modules\[0\]._target_"):
        build_module(nested)


def test_messages_name_the_key_and_what_would_do():
    with pytest.raises(
        InputError, match=r"_target_: .* does not exist: torch.nn has no 'Liner'; did you mean 'Linear'"
    ):
        build({"_target_": "torch.nn.Liner"})
    with pytest.raises(
        InputError, match=r"^modules\[1\].in_feature: unknown argument; did you mean 'in_features'\? .*bias"
    ):
        build(
            {"_target_": "torch.nn.ModuleList", "modules": [LINEAR, {"_target_": "torch.nn.Linear", "in_feature": 3}]}
        )
    with pytest.raises(InputError, match=r"^config: missing out_features. Linear takes: in_features, out_features"):
        build({"_target_": "torch.nn.Linear", "in_features": 3})
    with pytest.raises(InputError, match=r"^config: ProjectionHead: activation='swoosh'; choose"):
        build({"_target_": "clep.models.ProjectionHead", "in_dim": 1, "out_dim": 1, "activation": "swoosh"})
    with pytest.raises(InputError, match=r"^_partial_: only _target_"):
        build({**LINEAR, "_partial_": True})
    with pytest.raises(InputError, match=r"^_target_: expected the dotted name"):
        build({"in_features": 3})


def test_call_leaves_open_signatures_alone():
    assert call(dict, {"a": 1}) == {"a": 1}
