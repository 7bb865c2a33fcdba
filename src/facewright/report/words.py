"""Numbers as a reader says them: percent, minutes, megabytes. What does not exist is "undefined", never NaN."""

from __future__ import annotations

import math

UNDEFINED = "undefined"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number, or "undefined".

    >>> number(0.51234), number(None), number(float("nan"))
    ('0.512', 'undefined', 'undefined')
    """
    return UNDEFINED if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, or "undefined".

    >>> percent(0.9137), percent(None)
    ('91.4 %', 'undefined')
    """
    return UNDEFINED if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def span(low: float, high: float) -> str:
    """An interval of shares, in percent.

    >>> span(0.871, 0.9404)
    '87.1–94.0'
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDEFINED
    return f"{100 * low:.1f}–{100 * high:.1f}"


def signed_points(value: float) -> str:
    """A difference of shares, in percentage points.

    >>> signed_points(0.031), signed_points(-0.002)
    ('+3.1', '−0.2')
    """
    if not math.isfinite(value):
        return UNDEFINED
    return f"{100 * value:+.1f}".replace("-", "−")


def short_count(value: float | None) -> str:
    """A count or amount with three significant digits.

    >>> short_count(23_508_032), short_count(7_000_000), short_count(950), short_count(61.0)
    ('23.5 M', '7.00 M', '950', '61.0')
    """
    if isinstance(value, int) and abs(value) < 1000:
        return str(value)
    scaled, letter = _scaled(value)
    return UNDEFINED if scaled is None else significant(scaled) + letter


def tick(value: float) -> str:
    """A count beside an axis, without trailing zeros.

    >>> tick(20_000.0), tick(0.5)
    ('20 k', '0.5')
    """
    scaled, letter = _scaled(value)
    return UNDEFINED if scaled is None else f"{scaled:.3g}{letter}"


def significant(value: float | None) -> str:
    """Three significant digits, no unit.

    >>> significant(1.4), significant(0.00421)
    ('1.40', '0.00421')
    """
    return UNDEFINED if value is None or not math.isfinite(value) else f"{value:#.3g}".rstrip(".")


def _scaled(value: float | None) -> tuple[float | None, str]:
    """A number below a thousand and the letter of its power; None where the value is undefined."""
    if value is None or not math.isfinite(value):
        return None, ""
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size * 0.9995:
            return value / size, letter
    return value, ""


def quantity(value: float | None) -> str:
    """Write a number in any unit with three significant digits.

    >>> quantity(11234.0), quantity(0.1208), quantity(-1.9e-7), quantity(0.0)
    ('11,200', '0.121', '−1.90e−07', '0')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.2e}" if not -4 <= size < 9 else f"{round(value, 2 - size):,.{max(0, 2 - size)}f}"
    return text.replace("-", "−")


def duration(seconds: float | None) -> str:
    """A wall time.

    >>> duration(4.2), duration(1042), duration(7300)
    ('4.2 s', '17.4 min', '2.03 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNDEFINED
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3597 else f"{seconds / 3600:.2f} h"


def milliseconds(value: float | None) -> str:
    """A latency, with three significant digits.

    >>> milliseconds(12.345), milliseconds(0.8)
    ('12.3 ms', '0.80 ms')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} ms"


def file_size(count: int | None) -> str:
    """Bytes in decimal units, as file managers show them.

    >>> file_size(94_100_000), file_size(None)
    ('94.1 MB', 'undefined')
    """
    if count is None:
        return UNDEFINED
    return f"{count} B" if count < 1000 else f"{short_count(count)}B"


def chance(value: float | None) -> str:
    """A p-value.

    >>> chance(0.00004), chance(0.0312)
    ('< 0.001', '0.031')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
