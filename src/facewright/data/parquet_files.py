"""Tables of images in .parquet and .arrow files, as Hugging Face's `datasets` saves them; read by pyarrow alone.

The column of images holds bytes, or structs with a field `bytes`; it is found by the `_type: Image` in the schema, else
by its name or because it is the only one. A ClassLabel's numbers get their names. Several files are one set; names such
as train-00000-of-00004.parquet are the parts of a split. Images are read a group of rows at a time, when they are asked
for. Source: huggingface.co/docs/datasets, "Features"; Apache Parquet format 2.11, "File format".
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.data.image_records import ContentSource, FileSource, Record, reason_of, stamp_of, within_limit
from facewright.data.label_files import ROLES, part_of
from facewright.data.layout_reading import Options, described
from facewright.data.packed import LIMITS
from facewright.data.records import Dataset
from facewright.data.trees import Tree
from facewright.errors import BadArchive, BadImage, DataError, FacewrightError, require_extra
from facewright.files import parse_json

KINDS = (".parquet", ".arrow")
_IMAGE = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "face", "bytes", "image_bytes", "pixel_values")
_MOST_GROUP = 2**31  # bytes of a group of rows: it is in memory while one of its images is read
_KEPT = 2  # groups of rows in memory


@dataclass(frozen=True)
class _Table:
    """A file: its column of images, and the rows of each of its groups (record batches of an .arrow)."""

    file: str
    image: str
    ends: NDArray[np.int64]  # (G + 1,) rows before each group

    def group(self, number: int) -> Any:
        """The images of a group, as an Arrow array of bytes. Raises pyarrow's errors."""
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import compute, parquet

        if self.file.lower().endswith(".arrow"):
            column = pa.chunked_array([_batches(self.file)[number].column(self.image)])
        else:
            with parquet.ParquetFile(self.file) as table:
                column = table.read_row_group(number, columns=[self.image]).column(self.image)
        column = column.combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        # A struct's field has the struct's own nulls too.
        return compute.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


class TableSource(ContentSource):
    """Images in the rows of tables. Safe to share between threads, to fork and to pickle.

    A record's path is the number of its row, after the name of its file where there are several.
    """

    def __init__(self, tables: Mapping[str, _Table]) -> None:
        self.tables = dict(tables)
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`, of the file."""
        return stamp_of(Path(self._table(record.path)[0].file), record.path)

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""
        table, row = self._table(name)
        number = int(np.searchsorted(table.ends, row, side="right")) - 1
        with self._lock:  # groups are large: two threads must not read the same one
            try:
                if (table.file, number) not in self._groups:
                    self._groups[table.file, number] = table.group(number)
                    while len(self._groups) > _KEPT:
                        self._groups.popitem(last=False)
                self._groups.move_to_end((table.file, number))
                cell = self._groups[table.file, number][row - int(table.ends[number])]
            except _damage() as error:
                raise BadImage(name, f"cannot be read ({reason_of(error)})") from error
        if not cell.is_valid:
            raise BadImage(name, "holds no bytes, only a path or nothing; save the table with its images embedded")
        within_limit(name, cell.as_buffer().size)
        return bytes(cell.as_buffer())

    def _table(self, name: str) -> tuple[_Table, int]:
        folder, _, row = name.rpartition("/")
        try:
            return self.tables[folder], int(row)
        except (KeyError, ValueError):
            raise BadImage(name, "is not in the table") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"tables": self.tables}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def read_parquet(tree: Tree, options: Options) -> Dataset:
    """Read .parquet or .arrow files with images.

    Raises UsageError: pyarrow is not installed. BadArchive: damaged, or over the limits. DataError: no column of
    images, or it is in doubt which.
    """
    require_extra("data", "reading .parquet and .arrow")
    assert isinstance(tree.source, FileSource)
    names = [name for name in tree.packed if name.lower().endswith(KINDS)]
    tables: dict[str, _Table] = {}
    rows: list[tuple[str, dict[str, str]]] = []
    columns: dict[str, int] = {}
    for name in names:
        called = name.rpartition(".")[0] if len(names) > 1 else ""
        file = Path(tree.source.root, name)
        try:
            tables[called], facts = _read(file)
        except _damage() as error:
            raise BadArchive(f"{file}: expected a table with images; it cannot be read ({reason_of(error)})") from error
        split = part_of(called.rpartition("/")[2].partition("-of-")[0]) or part_of(called.rpartition("/")[0])
        for number, values in enumerate(facts):
            path = f"{called}/{number:07d}" if called else f"{number:07d}"
            rows.append((path, values | ({"split": split} if split else {})))
            columns |= dict.fromkeys(values, 0)
        if len(rows) > LIMITS.entries:
            raise BadArchive(f"{tree.where}: has more than {LIMITS.entries:,} images, which is the limit")
    known = [name for name in columns if name != "split"]
    usual = next((name for role in ("label", "identity") for name in ROLES[role] if name in known), "")
    if not usual and "columns" not in options:
        raise DataError(
            f"{tree.where}: expected a column called label, class, identity …, found {', '.join(known) or 'none'}; "
            "choose one with --columns label=NAME"
        )
    listed = Tree(tree.where, tree.name, TableSource(tables), [path for path, _ in rows])
    return described(listed, options, rows, known, usual)


def _read(file: Path) -> tuple[_Table, Iterator[dict[str, str]]]:
    """The table of a file, and the values of its other columns row by row. Raises BadArchive, DataError."""
    from pyarrow import parquet

    if file.suffix.lower() == ".arrow":
        batches = _batches(str(file))
        schema = batches[0].schema if batches else None
        if schema is None:
            raise DataError(f"{file}: has no rows")
        counts = [batch.num_rows for batch in batches]
        _check(file, max(batch.nbytes for batch in batches), sum(counts))
        image, others = _columns(file, schema)
        parts = (batch.select([*{name.partition(".")[0]: 0 for name in others}]) for batch in batches)
    else:
        table = parquet.ParquetFile(file)
        counts = [_checked_group(file, table.metadata.row_group(n)) for n in range(table.num_row_groups)]
        _check(file, 0, sum(counts))
        schema = table.schema_arrow
        image, others = _columns(file, schema)
        parts = table.iter_batches(columns=others) if others else iter(())
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return _Table(str(file), image, ends.astype(np.int64)), _values(file, parts, others, _names(schema), int(ends[-1]))


def _checked_group(file: Path, group: Any) -> int:
    """The rows of a group, after the sizes that it declares were found harmless."""
    _check(file, group.total_byte_size, group.num_rows)
    for number in range(group.num_columns):
        column = group.column(number)
        unpacked, packed = column.total_uncompressed_size, max(column.total_compressed_size, 1)
        if unpacked > LIMITS.ratio_from and unpacked > LIMITS.ratio * packed:
            raise BadArchive(f"{file}: a column unpacks to {unpacked:,} bytes from {packed:,}, as a zip bomb does")
    return int(group.num_rows)


def _check(file: Path, size: int, rows: int) -> None:
    if size > _MOST_GROUP or rows > LIMITS.entries:
        raise BadArchive(
            f"{file}: a group of rows has {size:,} bytes and {rows:,} rows; the limits are {_MOST_GROUP:,} and "
            f"{LIMITS.entries:,}; save it in smaller groups"
        )


def _values(
    file: Path, parts: Iterator[Any], others: Sequence[str], names: Mapping[str, Sequence[str]], rows: int
) -> Iterator[dict[str, str]]:
    if not others:
        yield from ({} for _ in range(rows))
    for part in parts:
        columns = {name: _column(part, name).to_pylist() for name in others}
        for row in range(part.num_rows):
            try:
                yield {name: _text(columns[name][row], names.get(name, ())) for name in others}
            except DataError as error:
                raise DataError(f"{file}: {error}") from None


def _column(part: Any, name: str) -> Any:
    """A column of a batch; of a struct one of its fields, called struct.field."""
    from pyarrow import compute

    if name in part.schema.names:
        return part.column(name)
    struct, _, field = name.partition(".")
    return compute.struct_field(part.column(struct), field)


def _text(value: Any, names: Sequence[str]) -> str:
    if value is None or (names and value == -1):  # a ClassLabel of -1 is unknown
        return ""
    if names:
        if not 0 <= int(value) < len(names):
            raise DataError(f"a label is {value}; expected 0 to {len(names) - 1}, the classes of the schema")
        return names[int(value)]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):  # how tables write what is not known
            return ""
        raise DataError(f"a value is {value}; expected a finite number")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _columns(file: Path, schema: Any) -> tuple[str, list[str]]:
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(kind[n].name == "bytes" and holds_bytes(kind[n].type) for n in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if holds_bytes(field.type)]
    noted = [name for name in fitting if _features(schema).get(name, {}).get("_type") == "Image"]
    chosen = noted or [name for name in fitting if name.casefold() in _IMAGE] or fitting
    if len(chosen) != 1:
        got = ", ".join(f"{field.name} ({field.type})"[:60] for field in schema) or "none"
        raise DataError(f"{file}: expected one column of images (bytes, or a struct with bytes), got the columns {got}")
    kinds = ("string", "large_string", "integer", "floating", "boolean")
    plain = [getattr(pa.types, f"is_{kind}") for kind in kinds]
    fields = [(field.name, field.type) for field in schema]
    fields += [
        (f"{field.name}.{inner.name}", inner.type)
        for field in schema
        if pa.types.is_struct(field.type) and field.name != chosen[0] and "." not in field.name
        for inner in field.type
    ]
    return chosen[0], [name for name, kind in fields if any(fits(kind) for fits in plain)]


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the notes of `datasets` on each column in the schema; empty where none can be read."""
    noted = (schema.metadata or {}).get(b"huggingface", b"")
    try:
        info = parse_json(noted, dict[str, Any], "schema").get("info") if noted else None
    except FacewrightError:
        return {}
    found = info.get("features") if isinstance(info, dict) else None
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _names(schema: Any) -> dict[str, list[str]]:
    labels = {
        name: facts.get("names") for name, facts in _features(schema).items() if facts.get("_type") == "ClassLabel"
    }
    return {name: [str(one) for one in names] for name, names in labels.items() if isinstance(names, list) and names}


def _batches(file: str) -> list[Any]:
    """The record batches of an .arrow file or stream, mapped and not read."""
    import pyarrow as pa

    mapped = pa.memory_map(file)
    try:
        opened = pa.ipc.open_file(mapped)
        return [opened.get_batch(number) for number in range(opened.num_record_batches)]
    except pa.ArrowInvalid:
        mapped.seek(0)
        return list(pa.ipc.open_stream(mapped))


def _damage() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)
