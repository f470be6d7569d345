"""The page: templates rendered into one file that needs nothing else."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from clep.files import atomic_path
from clep.view.report.charts import number
from clep.view.report.names import in_words

MAX_BYTES = 8_000_000
_TEMPLATES = Environment(
    loader=PackageLoader("clep.view.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"number": number, "in_words": in_words}


def write_page(path: str | Path, template: str, **context: Any) -> Path:
    """Render a template and write it atomically.

    Args:
        path: of the HTML file.
        template: file name in `templates/`.
        context: what the template shows; text in it is escaped.

    Raises:
        InputError: the folder cannot be written to.
    """
    html = _TEMPLATES.get_template(template).render(**context)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)
