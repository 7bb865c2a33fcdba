"""Headers of a trusted reverse proxy, and the path under which it publishes the server.

A proxy is believed only where it connects from one of `Settings.proxies`; other headers are dropped. Where a
header lists several values the last one counts, which is that of the nearest proxy.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from facewright.serve.http_errors import ApiError
from facewright.serve.settings import Settings, host_of, is_prefix

NAMES = ("x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")


def as_published(scope: Scope, settings: Settings) -> Scope:
    """Return the request as the client made it: scheme, `Host` and root path are those of the outermost server.

    The path of the result starts with the root path, whether or not the proxy has removed it.

    Raises:
        ApiError: a proxy sends a malformed header.
    """
    headers = Headers(scope=scope)
    client = scope.get("client") or ("", 0)
    trusted = settings.trusts(client[0])
    proto, host, prefix = (_last(headers, name) if trusted else None for name in NAMES)
    if proto is not None and proto not in ("http", "https"):
        raise ApiError(400, f"X-Forwarded-Proto: expected http or https, got {proto[:50]!r}")
    if host is not None and host_of(host) is None:
        raise ApiError(400, f"X-Forwarded-Host: expected a host name, got {host[:100]!r}")
    if prefix is not None and not is_prefix(prefix.rstrip("/")):
        raise ApiError(400, f"X-Forwarded-Prefix: expected a path such as /faces, got {prefix[:100]!r}")
    root = settings.root_path if prefix is None else prefix.rstrip("/")
    kept = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") not in NAMES]
    if host is not None:
        kept = [(name, value) for name, value in kept if name != b"host"] + [(b"host", host.encode("latin-1"))]
    path = scope["path"]
    inside = path == root or path.startswith(f"{root}/")
    whole = path if inside else f"{root}{path}"
    return {
        **scope,
        "scheme": proto or scope["scheme"],
        "headers": kept,
        "root_path": root,
        "path": whole,
        "raw_path": whole.encode(),
    }


def route_of(scope: Scope) -> str:
    """Return the path of a published request without its root path."""
    return str(scope["path"])[len(scope["root_path"]) :]


def _last(headers: Headers, name: str) -> str | None:
    values = [part.strip() for value in headers.getlist(name) for part in value.split(",")]
    return values[-1].lower() if values and name != "x-forwarded-prefix" else values[-1] if values else None
