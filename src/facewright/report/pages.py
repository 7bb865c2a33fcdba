"""Shared parts of every page: templates, frame, template filters, content security policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from facewright.provenance import Origin
from facewright.report import canvas, words

_TEMPLATES = Path(__file__).parent / "templates"
QUIET = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The content security policy of a page without a script: nothing is loaded, nothing runs."""


@cache
def text(name: str) -> str:
    """A file of the templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def breakable(name: str) -> Markup:
    """Let a name wrap after _ - . @ and /, not inside its words.

    >>> breakable("ann_<b>")
    Markup('ann_<wbr>&lt;b&gt;')
    """
    return Markup(re.sub("([_.@/-])", r"\1<wbr>", str(escape(name))))


def render(
    template: str,
    facts: Mapping[str, object],
    origin: Origin,
    filters: Mapping[str, Callable[..., object]] | None = None,
    policy: str = QUIET,
) -> str:
    """Return a whole page by a template that extends `frame.html`; of its facts all that is no `Markup` is escaped.

    `filters` are of this page alone; its content security policy is a constant of ours, not escaped.
    """
    environment = Environment(
        autoescape=True, loader=FunctionLoader(text), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"breakable": breakable, "percent": words.percent, "number": words.number, **(filters or {})}
    environment.globals |= {
        "colours": canvas.SERIES_COLOURS,
        "span": words.span,
        "style": Markup(text("style.css")),
        "policy": Markup(policy),
    }
    return environment.get_template(template).render(**facts, origin=origin)
