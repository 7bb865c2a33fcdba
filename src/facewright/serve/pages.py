"""The page, its styles and its scripts: files of the package, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources

from starlette.responses import Response

from facewright.serve.refusals import refusal

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> dict[str, bytes]:
    """Every file of the page by its name."""
    folder = resources.files("facewright.serve") / "page"
    return {item.name: item.read_bytes() for item in folder.iterdir() if suffix(item.name) in KINDS}


def page_file(name: str) -> Response:
    """One of them; only these names exist, whatever a path says."""
    content = page_files().get(name)
    if content is None:
        return refusal(404, "there is no such page")
    return Response(content, media_type=KINDS[suffix(name)])


def suffix(name: str) -> str:
    """Of a file's name.

    >>> suffix("app.js")
    '.js'
    """
    return name[name.rfind(".") :] if "." in name else ""
