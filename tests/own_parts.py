"""The files of docs/own_parts.md, written out, and data for them."""

import re
from pathlib import Path

import numpy as np

from clep.bank import BankWriter, Clock

GUIDE = Path(__file__).parents[1] / "docs" / "own_parts.md"
TEXTS = [f"{verb} the {noun}" for verb in ("opens", "closes", "takes", "washes") for noun in ("door", "cup", "pan")]
VIDEOS, PER_VIDEO, DIM = 10, 12, 8


def code_blocks(language: str) -> list[str]:
    """Return the code blocks of the guide in one language; "" for commands."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for found, block in blocks if found == language]


def write_own_parts(folder: Path) -> Path:
    """Write `mine.py`, and the guide's config folder, which is returned."""
    blocks = [block for block in code_blocks("python") if not block.startswith(("# embed.py", "# use.py"))]
    (folder / "mine.py").write_text("\n\n".join(blocks))
    for block in code_blocks("yaml"):
        (name,) = re.findall(r"^# (my_conf/.*)$", block, re.MULTILINE)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    return folder / "my_conf"


def write_pairs(folder: Path) -> None:
    """Write pairs.csv, bank.h5 and texts.h5: a moment's rows are close to its text, so that one can learn."""
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((len(TEXTS), DIM)).astype(np.float32)
    lines = ["video,start,end,text"]
    with BankWriter(folder / "bank.h5", DIM, Clock(1.0, 1.0), "float32", encoder="mean-colour-32") as writer:
        for video in range(VIDEOS):
            shown = random.permutation(len(TEXTS))[:PER_VIDEO]
            rows = np.repeat(embeddings[shown], 3, axis=0) + 0.1 * random.standard_normal((3 * PER_VIDEO, DIM))
            writer.add(f"v{video}", rows.astype(np.float32), duration_s=3.0 * PER_VIDEO)
            lines += [f"v{video},{3 * at}.0,{3 * at + 3}.0,{TEXTS[text]}" for at, text in enumerate(shown)]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    order = list(dict.fromkeys(line.split(",")[3] for line in lines[1:]))
    with BankWriter(folder / "texts.h5", DIM, None, "float32") as writer:
        writer.add("texts", embeddings[[TEXTS.index(text) for text in order]])
