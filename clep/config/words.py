"""Words of a command line that a shell has split, or left, in another way than was meant."""

import re
from collections.abc import Iterable, Sequence

from clep.errors import InputError


def joined(words: Sequence[str], index: int) -> str | None:
    """Return the word `key=value` that is meant by a word which is none, and its neighbours.

    Understood are `--key value`, `--key=value`, `key value`, `key: value`, `key = value`, and a list or a path with
    blanks in it.

    Args:
        words: of the command line.
        index: of the word that is no `key=value`.

    Returns:
        The word, or None where nothing can be said.
    """
    word, before, behind = words[index], list(words[:index]), list(words[index + 1 :])
    if before and before[-1].count("[") + before[-1].count("{") > before[-1].count("]") + before[-1].count("}"):
        end = next((n for n, one in enumerate(behind) if one.endswith(("]", "}"))), len(behind) - 1)
        return " ".join([before[-1], word] + ([] if word.endswith(("]", "}")) else behind[: end + 1]))
    if found := re.fullmatch(r"--?([A-Za-z][\w.-]*)=(.*)", word):
        return f"{found[1].replace('-', '_')}={found[2]}"
    found = re.fullmatch(r"-{0,2}([A-Za-z][\w./-]*):?", word)
    if found and behind:
        key = found[1].replace("-", "_") if word.startswith("-") else found[1]
        value = behind[1] if behind[0] == "=" and len(behind) > 1 else behind[0].removeprefix("=")
        if value and "=" not in value and not value.startswith("--"):
            return f"{key}={value}"
    if before and re.match(r"[\w.]+=[~./]", before[-1]) and "/" in word:  # a path with blanks
        key, _, value = before[-1].partition("=")
        return f'{key}="{value} {word}"'
    return None


def refuse_home_sign(words: Iterable[str]) -> None:
    """Refuse `key=~/path`, which a shell leaves as it is, so that a folder named ~ would be meant.

    Raises:
        InputError: the message has the word with $HOME.
    """
    for word in words:
        if found := re.fullmatch(r"""([\w.@/+-]+)=["']?~(/[^"']*)["']?""", word):
            raise InputError(f'{word}: ~ is not expanded there; write "{found[1]}=$HOME{found[2]}"')
