"""Every choice of loss and positives composes, is checked, and chooses the defaults that its objective wants."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from clep.config.build import build_typed
from clep.config.folder import config_folder
from clep.errors import InputError
from clep.losses import (
    AdaptiveMaxMarginLoss,
    BCELoss,
    ClipLoss,
    DiagonalPositives,
    EgoNCELoss,
    MaxMarginLoss,
    MultiPositiveNCELoss,
    RelevancyPositives,
    SigmoidLoss,
    SymmetricMultiSimilarityLoss,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
)
from clep.models import DualEncoder
from clep.training import ContrastiveModule
from clep.training.settings import checked_settings, fill_in_dims
from tests.test_configs import composed as without_tags

OBJECTIVES = {
    "clip": (ClipLoss, TextIdPositives),
    "soft_clip": (ClipLoss, TextSimilarityPositives),
    "mil_nce": (MultiPositiveNCELoss, TextIdPositives),
    "egonce": (EgoNCELoss, VerbNounPositives),
    "siglip": (SigmoidLoss, TextIdPositives),
    "bce": (BCELoss, TextIdPositives),
    "max_margin": (MaxMarginLoss, RelevancyPositives),
    "adaptive_max_margin": (AdaptiveMaxMarginLoss, RelevancyPositives),
    "symmetric_multi_similarity": (SymmetricMultiSimilarityLoss, RelevancyPositives),
}
POSITIVES = {
    "diagonal": DiagonalPositives,
    "text_id": TextIdPositives,
    "text_similarity": TextSimilarityPositives,
    "verb_noun": VerbNounPositives,
    "relevancy": RelevancyPositives,
}


def composed(tmp_path: Path, *overrides: str) -> DictConfig:
    return without_tags(tmp_path, "data.verb_noun=given", *overrides)


def module_of(cfg: DictConfig) -> ContrastiveModule:
    values = checked_settings(cfg)
    return ContrastiveModule(
        DualEncoder.from_config(fill_in_dims(values["model"], 8, 6)),
        build_typed(values["loss"]),
        build_typed(values["optim"]["optimizer"]),
        positives=build_typed(values["positives"]),
        form=values["form"],
    )


def test_each_choice_is_explained_in_a_line() -> None:
    for group in ("loss", "positives"):
        for path in (config_folder() / group).glob("*.yaml"):
            lines = path.read_text(encoding="utf-8").splitlines()
            comment = lines[1] if lines[0] == "# @package _global_" else lines[0]
            assert comment.startswith("# "), path
    assert set(OBJECTIVES) <= {path.stem for path in (config_folder() / "loss").glob("*.yaml")}
    assert set(POSITIVES) == {path.stem for path in (config_folder() / "positives").glob("*.yaml")}


@pytest.mark.parametrize("loss", list(OBJECTIVES))
@pytest.mark.parametrize("form", ["global", pytest.param("local", marks=pytest.mark.slow)])
def test_a_loss_selects_its_positives_in_either_form(tmp_path: Path, loss: str, form: str) -> None:
    kind, positives = OBJECTIVES[loss]
    module = module_of(composed(tmp_path, "experiment=ego4d_clip", f"loss={loss}", f"form={form}"))
    assert type(module.loss.loss) is kind
    assert type(module.positives) is positives
    pairwise = loss in ("siglip", "bce")
    assert module.model.logit_scale.item() == pytest.approx(10 if pairwise else 1 / 0.07)
    assert module.model.logit_bias.item() == -10 if pairwise else module.model.logit_bias is None


PAIRS = [(loss, positives) for loss in OBJECTIVES for positives in POSITIVES]
QUICK = {(loss, list(POSITIVES)[index % len(POSITIVES)]) for index, loss in enumerate(OBJECTIVES)}  # each one once


@pytest.mark.parametrize(
    ("loss", "positives"), [pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow) for pair in PAIRS]
)
def test_any_loss_takes_any_positives(tmp_path: Path, loss: str, positives: str) -> None:
    module = module_of(composed(tmp_path, f"loss={loss}", f"positives={positives}"))
    assert type(module.positives) is POSITIVES[positives]


def test_an_experiment_overrides_the_choices_of_a_loss_and_the_command_line_both(tmp_path: Path) -> None:
    tutorial = composed(tmp_path, "experiment=ego4d_tutorial", "loss=egonce")
    assert isinstance(module_of(tutorial).positives, DiagonalPositives)
    both = composed(tmp_path, "experiment=ego4d_tutorial", "loss=egonce", "positives=text_id")
    assert isinstance(module_of(both).positives, TextIdPositives)
    other = module_of(composed(tmp_path, "loss=siglip", "model.init_bias=-3", "model.init_scale=1.0"))
    assert (other.model.logit_bias.item(), other.model.log_scale.item()) == (-3, 1)


def test_the_bias_and_the_scale_are_not_decayed(tmp_path: Path) -> None:
    module = module_of(composed(tmp_path, "loss=siglip"))
    groups = module.make_optimizer(module.model).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(module.model.logit_bias)] == decay[id(module.model.log_scale)] == 0
    assert max(decay.values()) > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.chunk=0", r"loss\.chunk=0 must be at least 1"),
        ("loss.chunk=many", r"loss\.chunk='many' is of type str"),
        ("model.init_bias=low", r"model\.init_bias='low' is of type str"),
        ("model.init_scale=9", r"init_scale=9 must lie between 0 and max_scale"),
        ("+positives.threshold=0.8", r"positives\.threshold: TextIdPositives has no option"),
    ],
)
def test_wrong_settings_of_siglip_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        module_of(composed(tmp_path, "loss=siglip", override))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["positives=text_similarity", "positives.threshold=1.5"], r"positives\.threshold=1\.5 must be a cosine"),
        (["positives=text_similarity", "positives.soft=maybe"], r"positives\.soft='maybe' is of type str"),
        (["positives=verb_noun", "positives.share=all"], r"positives\.share='all'; choose both, verb, noun"),
        (
            ["positives=verb_noun", "data.verb_noun=null"],
            r"VerbNounPositives needs data\.verb_noun .* is null; set data\.verb_noun=given",
        ),
        (["loss=siglip", "loss._target_=clep.losses.ClipLoss", "~loss.chunk"], r"model\.init_bias .*ClipLoss cannot"),
        (["loss._target_=torch.nn.Identity", "form=local"], r"form=local .*Identity has no share"),
        (
            ["loss=siglip", "model=tutorial"],
            r"SigmoidLoss needs model\.scale_form=exp .* is raw; set model",
        ),
        (["loss=cross_entropy"], r"CrossEntropyLoss cannot be called as loss\(video, text, scale, .* e\.g\. loss=clip"),
    ],
)
def test_contradictions_are_refused_with_the_reason(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_settings(composed(tmp_path, *words))


def test_a_contrastive_loss_is_refused_for_classification(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ClipLoss cannot be called as loss\(logits, target\), which task=Fine"):
        checked_settings(without_tags(tmp_path, "experiment=finetune_video", "loss=clip"))


@pytest.mark.parametrize("model", ["mlp", "tutorial", "temporal", "long_term", "trainable_text", "end_to_end"])
def test_every_pair_of_towers_can_have_a_bias(tmp_path: Path, model: str) -> None:
    assert composed(tmp_path, f"model={model}", "loss=bce", "model.init_bias=-3").model.init_bias == -3
