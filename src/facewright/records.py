"""The base class of every result and of every file that is read back: a frozen pydantic model."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from facewright.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Number = Annotated[float, Field(strict=True)]
"""A float that no text and no truth value stands for."""
Count = Annotated[int, Field(strict=True, ge=0)]
FloatArray = Annotated[NDArray[np.float64], PlainSerializer(np.ndarray.tolist, when_used="json")]
"""An array in a record; a list in `to_dict`."""
_SHOWN_ROWS = 20  # of a list of records, in a notebook
_STYLE = 'style="text-align:left;vertical-align:top"'  # notebooks centre a tall row and align to the right


class Record(BaseModel):
    """Facts that do not change: checked when made, JSON-ready, shown as a table in a notebook.

    Unknown keys and NaN are refused. A subclass names in `frame_rows` the field that holds its table, if it has one.

    >>> class Point(Record):
    ...     x: float
    ...     y: float = 0.0
    >>> Point(x=1).to_dict()
    {'x': 1.0, 'y': 0.0}
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        populate_by_name=True,
        protected_namespaces=(),
        defer_build=True,
    )
    frame_rows: ClassVar[str | None] = None  # the field that `to_frame` makes a row each of

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain Python values: what is undefined is None, never NaN."""
        return self.model_dump(mode="json", by_alias=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for some fields, checked like the original."""
        return self.model_validate({**dict(self), **changes})

    def to_frame(self) -> pd.DataFrame:
        """Return the facts as a pandas table: a row for each entry of the main list, or one row in all.

        Nested facts get one column each, named by the path of their keys (`accuracy.low`).

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UsageError("to_frame() needs pandas: pip install pandas; to_dict() works without it") from None
        facts = self.to_dict()
        return pd.json_normalize(facts if self.frame_rows is None else facts[self.frame_rows])

    def _repr_html_(self) -> str:
        return notebook_display(self)


class _Result(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def notebook_display(result: _Result) -> str:
    """Return a result as an HTML table, as notebooks show it."""
    return f"<table><caption>{type(result).__name__}</caption>{_rows(result.to_dict())}</table>"


def _rows(facts: dict[str, Any]) -> str:
    """Return a row for each fact; what is absent or empty has none."""
    return "".join(
        f"<tr><th {_STYLE}>{_breakable(key)}</th><td {_STYLE}>{_cell(value)}</td></tr>"
        for key, value in facts.items()
        if value not in (None, "", [], {})
    )


def _cell(value: Any) -> str:
    """Return a fact as HTML: a rate in one line, records and matrices as tables, the first of a long list."""
    if isinstance(value, dict):
        if value.keys() == {"value", "low", "high", "n"}:
            return f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g}, n={value['n']})"
        return f"<table>{_rows(value)}</table>"
    if isinstance(value, list):
        more = f" … {len(value) - _SHOWN_ROWS} more" if len(value) > _SHOWN_ROWS else ""
        shown = value[:_SHOWN_ROWS]
        if not value or not all(isinstance(row, dict | list) for row in value):
            sentences = any(isinstance(one, str) and one.endswith(".") for one in shown)
            return ("<br>" if sentences else ", ").join(map(_cell, shown)) + more
        if isinstance(shown[0], dict):
            return f"<table>{_table_of(shown)}</table>{more}"
        return f"<table>{''.join(_line(row[:_SHOWN_ROWS]) for row in shown)}</table>{more}"
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return _breakable(text if len(text) <= 500 else text[:499] + "…")


def _breakable(text: str) -> str:
    """Return text as HTML that a browser may break within a long name."""
    return re.sub("([_/@])", r"\1<wbr>", html.escape(text, quote=False))


def _table_of(rows: list[dict[str, Any]]) -> str:
    """Return a line for each record; facts that are tables stand below their line, so that it fits on a page."""
    below = {key for row in rows for key, value in row.items() if _is_table(value)}
    columns = [key for key in rows[0] if key not in below]
    head = "".join(f"<th {_STYLE}>{_breakable(key)}</th>" for key in columns)
    lines = [f"<tr>{head}</tr>"]
    for row in rows:
        lines.append(_line([row.get(key) for key in columns]))
        if inner := _rows({key: value for key, value in row.items() if key in below}):
            lines.append(f'<tr><td {_STYLE} colspan="{max(1, len(columns))}"><table>{inner}</table></td></tr>')
    return "".join(lines)


def _line(values: Iterable[Any]) -> str:
    return "<tr>" + "".join(f"<td {_STYLE}>{_cell(one)}</td>" for one in values) + "</tr>"


def _is_table(value: Any) -> bool:
    """Return True for a record or a list of some, but not for a rate, which takes one line."""
    if isinstance(value, dict):
        return value.keys() != {"value", "low", "high", "n"}
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)
