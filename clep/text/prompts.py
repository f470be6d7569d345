"""Prompts of class names for zero-shot classification, and the average of their embeddings."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from clep.errors import InputError
from clep.tables import read_lines

_QUOTES = re.compile(r'["“”„«»]')
_SOMEONE_IS = re.compile(r"^someone is ")


def kinetics_prompts(labels: Sequence[str]) -> list[list[str]]:
    """Return one list of prompts for each Kinetics class: "The person in this video is doing <label>".

    Quotes are removed from the label, underscores become spaces.

    Raises:
        InputError: no label, a blank label, or duplicate labels.
    """
    _check(labels)
    actions = [_fold(_unquoted(_QUOTES.sub("", label).replace("_", " ").strip())) for label in labels]
    _check(actions)
    return [[f"The person in this video is doing {action}"] for action in actions]


def ego_charades_prompts(labels: Sequence[str]) -> dict[str, list[list[str]]]:
    """Return three sets of prompts, each one list for each Charades class.

    "label": the unchanged label; "ego_prompt": "Camera wearer is <action>"; "exo_prompt": "The person in this video
    is <action>", where <action> is the label in lower case without a leading "someone is".

    Raises:
        InputError: no label, a blank label, or duplicate labels.
    """
    _check(labels)
    actions = [_SOMEONE_IS.sub("", _fold(label.lower())) for label in labels]
    return {
        "label": [[label] for label in labels],
        "ego_prompt": [[f"Camera wearer is {action}"] for action in actions],
        "exo_prompt": [[f"The person in this video is {action}"] for action in actions],
    }


def fill_template(texts: Sequence[str], template: str) -> list[str]:
    """Return the template with each text in place of its `{}`.

    Raises:
        InputError: the template has no `{}`, or more than one.
    """
    if template.count("{}") != 1:
        raise InputError(f"template={template!r} must have {{}} once, where the text goes")
    return [template.replace("{}", text) for text in texts]


def read_templates(templates: str | Path | Sequence[str]) -> list[str]:
    """Return templates from one, from several, or from a text file (.txt) with one per line.

    Raises:
        InputError: there is none, the file cannot be read, or a template does not have `{}` once; names the line.
    """
    if isinstance(templates, Path) or (isinstance(templates, str) and templates.endswith(".txt")):
        found = [(f"{templates}, line {line}", text) for line, text in enumerate(read_lines(templates), start=1)]
        found = [(where, text.strip()) for where, text in found if text.strip()]
    else:
        found = [("templates", one) for one in ([templates] if isinstance(templates, str) else templates)]
    if not found:
        raise InputError(f"templates={templates!r} is empty; give at least one, for example ['{{}}']")
    for where, template in found:
        if template.count("{}") != 1:
            raise InputError(f"{where}: the template {template!r} must have {{}} once, where the text goes")
    return [template for _, template in found]


def class_prompts(
    texts: Sequence[Sequence[str]], templates: str | Path | Sequence[str]
) -> tuple[list[str], Int64[np.ndarray, " prompts"]]:
    """Return the prompts of all classes, every template with every text of a class, and the class of each prompt.

    Args:
        texts: of each class.
        templates: one, several, or a file of them; see `read_templates`.

    Raises:
        InputError: there is no template, a template has no `{}`, or a class has no text.
    """
    templates = read_templates(templates)
    empty = [index for index, of_class in enumerate(texts) if not any(text.strip() for text in of_class)]
    if empty:
        raise InputError(f"class {empty[0]} of {len(texts)} has no text; check the file that the classes come from")
    prompts = [[one for template in templates for one in fill_template(of_class, template)] for of_class in texts]
    owner = np.repeat(np.arange(len(texts)), [len(of_class) for of_class in prompts])
    return [prompt for of_class in prompts for prompt in of_class], owner


def average_prompts(
    embeddings: Float[Tensor, "prompts dim"], owner: Int64[Tensor, " prompts"], classes: int, normalize: bool = True
) -> Float[Tensor, "classes dim"]:
    """Return one vector a class: the mean of its prompts, in float32.

    Args:
        embeddings: of the prompts.
        owner: class of each prompt; classes may have different numbers of them.
        classes: number of classes, each with a prompt.
        normalize: every prompt and every mean is scaled to unit length, as CLIP and LaViLa do.
    """
    rows = functional.normalize(embeddings.float(), dim=-1) if normalize else embeddings.float()
    total = rows.new_zeros(classes, rows.shape[1]).index_add_(0, owner, rows)
    mean = total / owner.bincount(minlength=classes)[:, None]
    return functional.normalize(mean, dim=-1) if normalize else mean


def average_templates(embeddings: Float[Tensor, "classes templates dim"]) -> Float[Tensor, "classes dim"]:
    """Return one unit-length embedding per class, the average of its prompts, in float32.

    Each prompt is normalised, the prompts of a class are averaged, and the mean is normalised, always over `dim`: a
    class does not depend on the other classes.
    """
    unit = functional.normalize(embeddings.float(), dim=-1)
    return functional.normalize(unit.mean(dim=1), dim=-1)


def _unquoted(label: str) -> str:
    """Remove apostrophes around the label, but not inside it ("person's head")."""
    return label[1:-1] if len(label) > 1 and label[0] == label[-1] == "'" else label


def _fold(text: str) -> str:
    return " ".join(text.split())


def _check(labels: Sequence[str]) -> None:
    if not len(labels):
        raise InputError("the list of classes is empty; check the file that the labels come from")
    blank = [i for i, label in enumerate(labels) if not label.strip()]
    if blank:
        raise InputError(f"class {blank[0]} of {len(labels)} has a blank label; check the file it comes from")
    if len(set(labels)) < len(labels):
        repeated = sorted({label for label in labels if list(labels).count(label) > 1})
        raise InputError(
            f"the list of classes has {len(repeated)} duplicate labels, for example {repeated[0]!r}; list each class "
            f"once"
        )
