"""The location of a gallery: a file, or an address on a PostgreSQL server, shown without its password.

postgresql://user@host:5432/database?gallery=staff&index=hnsw: `gallery` names the schema that holds it, `index` is
`exact` or `hnsw`. Everything else is libpq's: its options, its environment (PGPASSWORD), its password file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from facewright.errors import UsageError

SCHEMES = ("postgresql://", "postgres://")
DEFAULT_GALLERY = "facewright"
NAME = re.compile(r"(?!pg_|public$|information_schema$)[a-z_][a-z0-9_-]{0,62}")  # of a schema, quoted or not
INDEXES = ("exact", "hnsw")


@dataclass(frozen=True, repr=False)  # a password must not get into a traceback
class Address:
    """A gallery on a server."""

    server: str  # the address as libpq takes it, password and all
    gallery: str  # the schema
    hnsw: bool  # search by the approximate index
    shown: str  # without the password

    def hidden(self, text: str) -> str:
        """Remove the password from another program's message."""
        secret = urlsplit(self.server).netloc.rpartition("@")[0].partition(":")[2]
        for form in {secret, unquote(secret)} - {""}:
            text = text.replace(form, "***")
        return text


def is_address(location: object) -> bool:
    """Tell a gallery on a server from one in a file."""
    return str(location).startswith(SCHEMES)


def address_of(url: str) -> Address:
    """Parse an address.

    Raises:
        UsageError: it is none, or its gallery or index is invalid. The message never quotes the address.
    >>> address_of("postgresql://ann:secret@db:5433/faces?sslmode=require&gallery=staff").shown
    'postgresql://ann@db:5433/faces?gallery=staff'
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    options = [piece.partition("=") for piece in parts.query.split("&") if piece]
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    unclear = "@" in parts.path or parts.fragment or not all(sign for _, sign, _ in options)
    if unclear or not all(port.isdecimal() or not port for port in ports):  # could be a part of a password
        raise UsageError(
            "expected postgresql://user@host:5432/database?gallery=name, special characters of a name or a password "
            "as %XX; got another form (not shown: it may hold a password)"
        )
    own = {name: unquote(value) for name, _, value in options if name in ("gallery", "index")}
    gallery, index = own.get("gallery", DEFAULT_GALLERY), own.get("index", INDEXES[0])
    if not NAME.fullmatch(gallery):
        raise UsageError(
            f"expected gallery=NAME of lower-case letters, digits, _ and -, at most 63, no schema of PostgreSQL's own; "
            f"got {gallery!r}"
        )
    if index not in INDEXES:
        raise UsageError(f"expected index={' or index='.join(INDEXES)}, got {index!r}")
    rest = "&".join(name + sign + value for name, sign, value in options if name not in own)
    kept = [f"host={quote(unquote(value), safe='/')}" for name, _, value in options if name == "host"]
    kept += [f"{name}={value}" for name, value in own.items() if value not in (DEFAULT_GALLERY, INDEXES[0])]
    shown = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}"
    server = f"postgresql://{parts.netloc}{parts.path}" + (f"?{rest}" if rest else "")
    return Address(server, gallery, index == "hnsw", shown + (f"?{'&'.join(kept)}" if kept else ""))


def shown(location: str | Path) -> str:
    """The location without a password. Raises: as `open_store`."""
    return address_of(str(location)).shown if is_address(location) else str(path_of(location))


def path_of(location: str | Path) -> Path:
    """The file of a gallery. Raises UsageError: it is no file's name, or a folder's."""
    path, scheme = Path(location), str(location).partition("://")[0]
    if "://" in str(location) or str(location).startswith("postgresql:/") or path.is_dir():  # `Path` merges slashes
        raise UsageError(
            "expected the file of a gallery, such as people.gallery, or postgresql://user@host/database?gallery=name "
            f"as text; got {location if scheme == str(location) else scheme + '://...'}"
        )
    return path
