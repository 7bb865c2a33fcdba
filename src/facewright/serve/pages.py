"""The page, its styles and its scripts: files of the package, read once; and the API's description as a page."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib import resources
from pathlib import PurePath
from typing import Any

from starlette.responses import HTMLResponse, Response

from facewright.serve.http_errors import error_response

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> dict[str, bytes]:
    """Return every file of the page by its name."""
    folder = resources.files("facewright.serve") / "page"
    return {item.name: item.read_bytes() for item in folder.iterdir() if PurePath(item.name).suffix in KINDS}


def page_file(name: str) -> Response:
    """Return one of them; only these names exist, whatever a path says."""
    content = page_files().get(name)
    if content is None:
        return error_response(404, "there is no such page")
    return Response(content, media_type=KINDS[PurePath(name).suffix])


def api_page(schema: dict[str, Any]) -> Response:
    """Return the description of the API as a page without scripts."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    sections = "".join(_operation(*one, schema["components"]["schemas"]) for one in operations)
    title = f"{schema['info']['title']} {schema['info']['version']}: HTTP API"
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="static/style.css">'
        f'<main class="wrap docs"><h1>{escape(title)}</h1>'
        f"<p>{_words(schema['info']['description'])}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>. To try it: <a href=".">the page</a>.</p>'
        f"{sections}</main></html>"
    )


def _words(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _operation(method: str, path: str, operation: dict[str, Any], named: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    kind = next(iter(body), "")
    schema = body[kind].get("schema", {}) if kind else {}
    schema = named.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = schema.get("required", [])
    fields = [(name, one, name in required) for name, one in schema.get("properties", {}).items()]
    fields += [
        (one["name"], one.get("schema", {}), one.get("required", False)) for one in operation.get("parameters", [])
    ]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(one))}</td>"
        f"<td>{'required' if needed else ''}</td><td>{_words(one.get('description', ''))}</td></tr>"
        for name, one, needed in fields
    )
    statuses = ", ".join(operation.get("responses", {}))
    return (
        f"<section><h2><code>{method} {escape(path)}</code></h2><p>{_words(operation.get('description', ''))}</p>"
        f"<p class='sub'>{escape(kind)} → {escape(statuses)}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + "</section>"
    )


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words: "integer, 1 to 100", "image file", "center | largest | error"."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("format") == "binary":
        return "image file"
    if schema.get("type") == "array":
        return f"one or more: {_type(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f", {low:,} to {high:,}" if low is not None and high is not None else ""
    return f"{schema.get('type', '')}{bounds}"
