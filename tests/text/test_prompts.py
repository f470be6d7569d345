import pytest
import torch

from clep.errors import InputError
from clep.text import average_templates, ego_charades_prompts, kinetics_prompts


@pytest.mark.parametrize(
    ("label", "action"),
    [
        ("riding a bike", "riding a bike"),
        ('"riding a bike"', "riding a bike"),
        ("“riding a bike”", "riding a bike"),
        ("'riding a bike'", "riding a bike"),
        ("riding_a_bike", "riding a bike"),
        ("massaging person's head", "massaging person's head"),
        ("tying knot (not on a tie)", "tying knot (not on a tie)"),
        ("using segway", "using segway"),
    ],
)
def test_kinetics_prompts(label: str, action: str) -> None:
    assert kinetics_prompts([label]) == [[f"The person in this video is doing {action}"]]


@pytest.mark.parametrize(
    ("label", "action"),
    [
        ("Opening a door", "opening a door"),
        ("Someone is washing dishes", "washing dishes"),
        ("Washing dishes", "washing dishes"),
        ("Someone is going from standing to sitting", "going from standing to sitting"),
        ("Watching what someone is doing", "watching what someone is doing"),
        ("This is someone", "this is someone"),
        ("Holding a phone/camera", "holding a phone/camera"),
    ],
)
def test_ego_charades_prompts(label: str, action: str) -> None:
    assert ego_charades_prompts([label]) == {
        "label": [[label]],
        "ego_prompt": [[f"Camera wearer is {action}"]],
        "exo_prompt": [[f"The person in this video is {action}"]],
    }


def test_classes_keep_their_order() -> None:
    assert [prompt for (prompt,) in ego_charades_prompts(["B", "A", "C"])["label"]] == ["B", "A", "C"]


@pytest.mark.parametrize("prompts", [kinetics_prompts, ego_charades_prompts])
def test_invalid_lists_of_classes_are_refused(prompts) -> None:
    with pytest.raises(InputError, match="list of classes is empty"):
        prompts([])
    with pytest.raises(InputError, match="class 1 of 2 has a blank label"):
        prompts(["a", " "])
    with pytest.raises(InputError, match="duplicate labels, for example 'a'"):
        prompts(["a", "b", "a"])


def test_kinetics_labels_that_become_equal_or_blank() -> None:
    with pytest.raises(InputError, match="riding a bike"):
        kinetics_prompts(["riding a bike", "riding_a_bike"])
    with pytest.raises(InputError, match="blank"):
        kinetics_prompts(['""'])


def test_average_templates_equals_a_slow_loop() -> None:
    embeddings = torch.randn(5, 3, 8) * torch.rand(5, 3, 1) * 10
    for c, mean in enumerate(average_templates(embeddings)):
        total = sum(embeddings[c, t] / embeddings[c, t].norm() for t in range(3))
        torch.testing.assert_close(mean, total / total.norm())


def test_average_templates_normalises_over_the_embedding_not_the_classes() -> None:
    embeddings = torch.randn(6, 2, 8)
    result = average_templates(embeddings)
    torch.testing.assert_close(result.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(result[:3], average_templates(embeddings[:3]))  # independent of other classes
    assert not torch.allclose(result.norm(dim=0), torch.ones(8))


def test_average_templates_in_float32() -> None:
    assert average_templates(torch.randn(2, 1, 4, dtype=torch.float16)).dtype == torch.float32
