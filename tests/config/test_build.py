import pytest
from omegaconf import OmegaConf
from torch import nn

from clep.config.build import build, build_module, build_typed, call
from clep.config.targets import ANYTHING
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


def test_keyword_arguments_override_the_config_and_are_not_built():
    assert build(LINEAR, out_features=9).out_features == 9
    head = build({"_target_": "clep.models.DualEncoder", "text": LINEAR}, video=nn.Identity())
    assert isinstance(head.video, nn.Identity)


def test_functions_and_classmethods_that_the_user_typed():
    loss = {"_target_": "clep.losses.ClipLoss"}
    assert build_typed({"_target_": "clep.losses.across_ranks", "loss": loss, "form": "local"}).form == "local"
    config = {"video": LINEAR, "text": LINEAR}
    model = build_typed({"_target_": "clep.models.DualEncoder.from_config"}, config=config)
    assert model.config == config


def test_partial_returns_a_function_of_the_remaining_arguments():
    make = build_typed({"_target_": "torch.nn.Linear", "_partial_": True, "in_features": 3})
    assert make(out_features=5).out_features == 5


def test_a_dict_config_is_resolved():
    config = OmegaConf.create({"_target_": "torch.nn.Linear", "in_features": 3, "out_features": "${.in_features}"})
    assert build(config).out_features == 3
    with pytest.raises(InputError, match="nowhere"):
        build(OmegaConf.create({"_target_": "torch.nn.Linear", "in_features": "${nowhere}"}))


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
        "clep.config.targets.importlib.import_module",
        "clep.losses.clip.torch.load",
        "clep.losses.clip.torch.nn.functional.torch.load",
        "clep.models.DualEncoder.__init__.__globals__",
        "clep.models.DualEncoder.__class__",
        "clep.config.targets._remedy",
        "torch.nn.modules.module.torch.load",
        "torch.nn.Linear.load_state_dict.__globals__",
        "clep..files",
        "clep.models.",
        "torch.nn.functional.relu_",
        "clep.config.targets.REGISTERED",
        "clep.losses.across_ranks",
        "clep.models.DualEncoder.from_config",
        "clep.bank.FeatureBank",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match=r"^_target_=.* is not allowed"):
        build({"_target_": name})


def test_modules_only():
    assert isinstance(build_module(LINEAR), nn.Linear)
    with pytest.raises(InputError, match=r"model.video._target_: clep.data.Window is not an nn.Module"):
        build_module({"_target_": "clep.data.Window"}, "model.video")
    with pytest.raises(InputError, match=r"model.video._target_: clep.files.write_json is not an nn.Module"):
        build_module({"_target_": "clep.files.write_json", "path": "x", "value": 1}, "model.video", ANYTHING)
    nested = {"_target_": "torch.nn.ModuleList", "modules": [{"_target_": "clep.files.read_json", "path": "x"}]}
    with pytest.raises(InputError, match=r"^modules\[0\]._target_"):
        build_module(nested)


def test_messages_name_the_key_and_the_remedy():
    with pytest.raises(
        InputError, match=r"_target_=.* cannot be imported: torch.nn has no 'Liner'; did you mean 'Linear'"
    ):
        build({"_target_": "torch.nn.Liner"})
    with pytest.raises(
        InputError, match=r"^modules\[1\].in_feature: Linear has no option 'in_feature'. Did you mean 'in_features'"
    ):
        build(
            {"_target_": "torch.nn.ModuleList", "modules": [LINEAR, {"_target_": "torch.nn.Linear", "in_feature": 3}]}
        )
    with pytest.raises(InputError, match=r"^Linear: Linear needs 'out_features'"):
        build({"_target_": "torch.nn.Linear", "in_features": 3})
    with pytest.raises(InputError, match=r"^config: ProjectionHead: layers and dims must be at least 1"):
        build({"_target_": "clep.models.ProjectionHead", "in_dim": 0, "out_dim": 1})
    with pytest.raises(InputError, match=r"^activation=swoosh is unknown\. Choose from: relu, gelu, silu, tanh"):
        build({"_target_": "clep.models.ProjectionHead", "in_dim": 1, "out_dim": 1, "activation": "swoosh"})
    with pytest.raises(InputError, match=r"^_recursive_: only _target_"):
        build({**LINEAR, "_recursive_": True})
    with pytest.raises(InputError, match=r"^_target_: expected a dict with the dotted name"):
        build({"in_features": 3})


def test_call_accepts_open_signatures():
    assert call(dict, {"a": 1}) == {"a": 1}


def test_a_file_does_not_allow_classes_itself():
    """A stranger's `TrainedEncoder` would name the classes that its own weights may build."""
    config = {"_target_": "clep.models.TrainedEncoder", "weights": "x", "allow": ["mine"]}
    for build_it in (build, build_module):
        with pytest.raises(InputError, match=r"allow is not allowed in what is read from a file"):
            build_it(config)
    with pytest.raises(InputError, match=r"x.*does not exist"):
        build_typed(config)
