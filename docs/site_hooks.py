"""Hooks of the documentation site (mkdocs.yml): pages made of files outside docs/, and links between all of them.

README.md is the start page; CONTRIBUTING.md, CHANGELOG.md and the notebooks, with their saved outputs, are pages too.
A link to a file of the repository that is no page goes to the repository's website; a link to nothing is a warning.
"""

import base64
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / ".cache" / "gallery"
COPIED = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "notebooks/README.md": "notebooks/README.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^ *(```+|~~~+).*?^ *\2 *$|`[^`\n]+`)", re.M | re.S)

log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files outside docs/."""
    for name, source in COPIED.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in notebook_pages(path, config.extra["source"]):
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for path in sorted(GALLERY.glob("*.html")):
        files.append(File.generated(config, f"gallery/{path.name}", content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead out of docs/ lead to pages of the site, or to the repository's website."""
    name = page.file.src_uri
    source = COPIED.get(name) or (name if name.startswith("notebooks/") else f"docs/{name}")
    if name == "index.md":
        page.meta["hide"] = ["navigation"]
    if name == "gallery.md":
        markdown += sample_pages()

    def rewritten(link: re.Match[str]) -> str:
        return site_link(link[1], posixpath.dirname(source), name, files, config.extra["source"]) + (link[2] or "")

    pieces = _FENCE.split(markdown)[:: _FENCE.groups + 1]
    code = [found[0] for found in _FENCE.finditer(markdown)]
    return "".join(_LINK.sub(rewritten, text) + after for text, after in zip(pieces, [*code, ""], strict=True))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Name the theme's search dialog, which screen readers announce."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


def site_link(target: str, folder: str, page: str, files: Files, website: str) -> str:
    """Return what a link of a page should be.

    Args:
        target: the link as written, relative to `folder`.
        folder: folder of the page's source in the repository.
        page: the page's path in the site's sources.
        files: all files of the site.
        website: address of the repository.
    """
    path = posixpath.normpath(posixpath.join(folder, target))
    pages = {source: made for made, source in COPIED.items()}
    inside = pages.get(path) or path.removeprefix("docs/").replace(".ipynb", ".md")
    if path.startswith(("docs/", "notebooks/")) or path in pages:
        if files.get_file_from_path(inside) is not None:
            return os.path.relpath(inside, posixpath.dirname(page) or ".").replace(os.sep, "/")
        if page == "gallery.md":  # a sample page, which is made before the site
            return target
    if not (ROOT / path).exists():
        log.warning("%s: link to %s, which does not exist", page, target)
    return f"{website}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"


def sample_pages() -> str:
    """Return the list of reports that `python docs/gallery.py` made."""
    titles = json.loads((GALLERY / "titles.json").read_text(encoding="utf-8")) if GALLERY.is_dir() else {}
    if not titles:
        return ""
    lines = [f"- [{title}](gallery/{name})" for name, title in titles.items()]
    heading = "\n## Pages to open\n\nMade by `make docs` from two short trainings on a small synthetic dataset:\n\n"
    return heading + "\n".join(lines) + "\n"


def notebook_pages(path: Path, website: str) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook and its pictures, as names and contents; `website` is that of the repository."""
    notebook, parts = json.loads(path.read_text(encoding="utf-8")), []
    for number, cell in enumerate(notebook["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(#([^)]+)\)", lambda link: f"](#{slugify(link[1].replace('-', ' '), '-')})", text))
            continue
        parts.append(f"```python\n{text}\n```")
        for index, output in enumerate(cell.get("outputs", [])):
            picture = f"{path.stem}_{number}_{index}.png"
            if "image/png" in output.get("data", {}):
                yield picture, base64.b64decode(output["data"]["image/png"])
            parts.append(output_text(output, picture))
    parts.append(f"*The notebook itself: [{path.name}]({website}/blob/main/notebooks/{path.name}).*")
    yield f"{path.stem}.md", "\n\n".join(filter(None, parts))


def output_text(output: dict[str, Any], picture: str) -> str:
    """Return a cell's output as Markdown; `picture` is the name of its image."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![Output of the cell above]({picture})"
    html = "".join(data.get("text/html", []))
    if "<table" in html:
        table = re.sub(r"<style.*?</style>", "", html, flags=re.S)
        return f'<div class="notebook-output">{re.sub(chr(10) + "+", chr(10), table)}</div>'
    text = "".join(output.get("text", data.get("text/plain", []))).rstrip()
    return f"```text\n{text}\n```" if text else ""
