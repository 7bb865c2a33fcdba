"""Writing files so that a reader sees the old content or the new, never half of either; and the user's cache folder."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import secrets
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from platformdirs import user_cache_path

from facewright import platforms
from facewright.errors import FacewrightError

MANIFEST = "manifest.json"  # in a run directory
LARGEST = 64 << 20  # bytes of a file that is read back as JSON or TOML
Facts = TypeVar("Facts")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # the last four are wide forms

LOG = logging.getLogger("facewright.files")


def model_file(path: Path) -> Path:
    """Return the model file of a run directory; of a file that file."""
    return path / "model.safetensors" if path.is_dir() else path


def cache_folder() -> Path:
    """Return the cache folder of decoded pixels and public weights: $FACEWRIGHT_CACHE, else the system's place."""
    override = os.environ.get("FACEWRIGHT_CACHE", "")
    return Path(override).expanduser() if override else user_cache_path("facewright", appauthor=False)


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace a file, in a folder that exists, by way of a temporary neighbour: write, flush to disk, rename.

    Raises:
        FacewrightError: the content could not be written whole (a full disk, say); the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, mode=mode) as out:
        out.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Args, Raises: as `write_atomic`.
    """
    LOG.info("writing %s", path)
    temporary = None
    try:
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
        with open(temporary, "wb", opener=lambda name, _: os.open(name, platforms.NEW_FILE, mode)) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        platforms.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise FacewrightError(
            f"{path}: could not be written ({error.strerror or error}); what was there before is unchanged"
        ) from error
    sync_folder(path.parent)


def write_tensors(path: Path, tensors: Mapping[str, Any], facts: dict[str, str], *, mode: int = 0o644) -> None:
    """Replace a safetensors file as `write_atomic` does; its bytes never lie in memory beside the tensors."""
    import safetensors.torch

    with replacing(path, mode=mode) as out:
        try:
            safetensors.torch.save_file(dict(tensors), out.name, facts)
        except safetensors.SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Replace a file by facts as JSON; NaN is refused, since JSON has none."""
    write_atomic(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a CSV table; text that a spreadsheet would run as a formula gets a quote in front.

    Source: OWASP, "CSV Injection". `plain_cell` takes the quote away again.

    >>> csv_text(["name", "score"], [["=cmd|' /C calc'!A0", -0.5]])
    "name,score\n'=cmd|' /C calc'!A0,-0.5\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_safe_cell(cell) for cell in row] for row in (header, *rows))
    return out.getvalue()


def plain_cell(text: str) -> str:
    """Return the text that `csv_text` wrote as this cell."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def _safe_cell(cell: object) -> object:
    if not isinstance(cell, str) or not cell.lstrip("'").startswith(_FORMULA):
        return cell
    try:
        float(cell)  # a negative number is no formula
    except ValueError:
        return f"'{cell}"
    return cell


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable, where the system can. Raises FacewrightError: the disk refused."""
    try:
        platforms.sync_folder(folder)
    except OSError as error:
        raise FacewrightError(f"{folder}: written, but not flushed to the disk ({error.strerror})") from error


def not_the_file(start: bytes) -> str | None:
    """Return what came in place of a model file, by its first bytes; None where nothing of that kind did.

    >>> not_the_file(b"<!DOCTYPE html>")
    'a web page, not the file; download the file itself'
    >>> not_the_file(b"\\xff\\xd8\\xff\\xe0")
    'an image; expected a model: a run directory, a .safetensors or an .onnx file'
    """
    if not start:
        return "the file is empty; download it again"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file; fetch it with git lfs pull"
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return "an image; expected a model: a run directory, a .safetensors or an .onnx file"
    if start.lstrip().startswith(b"<"):
        return "a web page, not the file; download the file itself"
    return None


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write manifest.json: the SHA-256 of those of the files that exist, so that a later change is noticed."""
    write_json(folder / MANIFEST, {name: _sha256(folder / name) for name in names if (folder / name).is_file()})


def check_manifest(
    folder: Path, names: Iterable[str] | None = None, *, error: type[FacewrightError] = FacewrightError
) -> None:
    """Compare files (default: all listed) with the folder's manifest; a folder without one passes.

    Raises:
        error: a file is missing or is not what was written; names each.
    """
    if not (folder / MANIFEST).is_file():
        return
    listed = read_json(folder / MANIFEST, dict[str, str], error=error)
    asked = listed if names is None else [name for name in names if name in listed]
    files = {name: folder / name for name in asked if Path(name).name == name}
    changed = sorted(name for name, path in files.items() if not path.is_file() or _sha256(path) != listed[name])
    if changed:
        raise error(
            f"{folder}: not as they were written (checksum): {', '.join(changed)}; restore them, or delete {MANIFEST} "
            "to accept them as they are"
        )


@contextlib.contextmanager
def rewriting(path: Path) -> Iterator[None]:
    """While a file is replaced, keep its folder's manifest true: without it first, with the new checksum afterwards."""
    manifest = path.parent / MANIFEST
    listed = read_json(manifest, dict[str, str]) if manifest.is_file() else {}
    if path.name not in listed:
        yield
        return
    write_json(manifest, {name: digest for name, digest in listed.items() if name != path.name})
    yield
    write_json(manifest, listed | {path.name: _sha256(path)})


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_json(
    path: Path, model: type[Facts], *, error: type[FacewrightError] = FacewrightError, limit: int = LARGEST
) -> Facts:
    """Read a JSON file back as a record, or as any type that pydantic checks (`dict[str, int]`).

    Args:
        limit: the largest file that is read, in bytes.
    Raises:
        error: no such file, too large, not UTF-8, not JSON, nested too deeply, a number out of range, or not `model`.
            The message names the file and the first wrong key.
    """
    return parse_json(read_limited(path, error=error, limit=limit), model, str(path), error=error)


def read_toml(
    path: Path, model: type[Facts], *, error: type[FacewrightError] = FacewrightError, limit: int = LARGEST
) -> Facts:
    """Read a TOML file back as a record; args and errors as `read_json`."""
    return parse_toml(read_limited(path, error=error, limit=limit), model, str(path), error=error)


def parse_json(
    text: bytes | str, model: type[Facts], source: str, *, error: type[FacewrightError] = FacewrightError
) -> Facts:
    """Check JSON that is at hand, such as a file's metadata; `source` names it in messages. Raises as `read_json`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_json(text)
    except ValidationError as wrong:
        raise error(f"{source}: damaged ({_first(wrong.errors(include_url=False))})") from None


def parse_toml(
    text: bytes | str, model: type[Facts], source: str, *, error: type[FacewrightError] = FacewrightError
) -> Facts:
    """Check TOML that is at hand; `source` names it in messages. Raises as `read_json`."""
    try:
        facts = tomllib.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise error(f"{source}: damaged (nested too deeply)") from None
    except ValueError as wrong:  # not UTF-8, not TOML, a number with too many digits
        raise error(f"{source}: damaged (not TOML: {wrong})") from None
    return as_record(facts, model, source, error=error)


def as_record(facts: Any, model: type[Facts], source: str, *, error: type[FacewrightError] = FacewrightError) -> Facts:
    """Check plain Python facts; `source` names them in messages. Raises as `read_json`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(facts)
    except ValidationError as wrong:
        raise error(f"{source}: damaged ({_first(wrong.errors(include_url=False))})") from None


def read_limited(path: Path, *, error: type[FacewrightError] = FacewrightError, limit: int = LARGEST) -> bytes:
    """Read a regular file whole; a pipe or a device is refused, not waited for.

    Raises:
        error: no such file, no regular file, not readable, or more than `limit` bytes.
    """
    LOG.info("reading %s", path)
    try:
        with open(os.open(path, platforms.NO_WAITING), "rb") as opened:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise error(f"{path}: not a regular file")
            content = opened.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as wrong:  # ValueError: a name with a zero byte
        reason = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else wrong
        raise error(f"{path}: cannot be read ({reason})") from None
    if len(content) > limit:
        raise error(f"{path}: larger than {limit:,} bytes, the limit for such a file")
    return content


def read_text(path: Path, *, error: type[FacewrightError] = FacewrightError, limit: int = LARGEST) -> str:
    """Read a UTF-8 file whole, up to a limit; errors as `read_limited`, and not UTF-8."""
    try:
        return read_limited(path, error=error, limit=limit).decode()
    except UnicodeDecodeError as wrong:
        raise error(f"{path}: damaged (not UTF-8: byte {wrong.start})") from None


def _first(errors: Any) -> str:
    """Return the first thing that is wrong, in one line, with its place and what came."""
    place, message = ".".join(str(part) for part in errors[0]["loc"]), errors[0]["msg"]
    came = "" if errors[0]["type"] in ("missing", "json_invalid") else f", got {errors[0]['input']!r:.60}"
    more = f"; {len(errors) - 1} more" if len(errors) > 1 else ""
    return f"{place}: {message}{came}{more}" if place else f"{message}{came}{more}"
