"""The help of the training command: the groups of `conf/`, one line each, taken from `conf/train.yaml`."""

import re
from collections.abc import Iterable

from clep.config.choices import choices_of_groups
from clep.config.folder import config_folder

_GROUP = re.compile(r"^  - (\w+): (\S+) *# (.+)$", re.MULTILINE)

_USAGE = """Train and evaluate.

  python train.py [experiment=NAME] [GROUP=NAME …] [KEY=VALUE …]       or clep-train, in any folder
  clep-train new FOLDER                   write a starter project: one config, one part, one test, one command

Groups (the default first):
{groups}

Groups of some experiments:
{others}
{settings}
  python train.py experiment=NAME --cfg job          shows all settings of an experiment; each can be given as KEY=VALUE
  python train.py -m seed=0,1,2                      a sweep: one run for each value, and a table of them at the end
  python train.py --config-dir DIR                   your own config groups, beside those of clep
"""

_OTHERS = {
    "encoder": "video encoder (experiment=table with data.videos, experiment=finetune_video)",
    "operator": "feature bank operator of long-term context (experiment=ego4d_long_term, ava_lfb)",
    "short_term": "features of a region (experiment=ava_lfb)",
}


def commented_settings(name: str) -> dict[str, str]:
    """Return the settings of a file of `conf/` that have no group, with the comment behind each."""
    text = (config_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+): [^\n#]*# (.+)$", text, re.MULTILINE))


def groups_help(folders: Iterable[str] = ()) -> str:
    """Return the help: each group with its meaning and its choices, then the settings without a group.

    Args:
        folders: config folders of the user.
    """
    text = (config_folder() / "train.yaml").read_text(encoding="utf-8")
    known = choices_of_groups(folders)
    lines = []
    for group, default, meaning in _GROUP.findall(text):
        names = sorted(known.get(group, ()), key=lambda name: (name != default, name))
        lines.append(f"  {group:<20}{meaning.split(' (')[0]}: {' | '.join(names)}")
    others = [f"  {group:<20}{meaning}: {' | '.join(sorted(known[group]))}" for group, meaning in _OTHERS.items()]
    settings = [f"  {key:<20}{meaning}" for key, meaning in commented_settings("train").items()]
    return _USAGE.format(
        groups="\n".join(lines), others="\n".join(others), settings="\nSettings:\n" + "\n".join(settings) + "\n"
    )
