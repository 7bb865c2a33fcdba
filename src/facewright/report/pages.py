"""The parts of every page: templates, content security policy, thumbnails, and figures as inline SVG.

Figures use the page's CSS variables for colours, so one drawing serves light and dark. matplotlib only knows fixed
colours: they are drawn in the token colours below, which stand for nothing, and `inline_svg` replaces each token by
`var(--name)`. No pyplot: a `Figure` is made, drawn and dropped.
"""

from __future__ import annotations

import html
import io
import math
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator
from PIL import Image

from facewright.images import Pixels, data_uri
from facewright.metrics.verification import probit
from facewright.provenance import Origin
from facewright.report import words

_TEMPLATES = Path(__file__).parent / "templates"
SIDE = 96  # pixels of a thumbnail's longer side
QUIET = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The content security policy of a page without a script: nothing is loaded, nothing runs."""
SERIES_COLOURS = 8  # distinct hues; series beyond them repeat the hues dashed
INK = "#f1d0a0"
MUTED = "#f1d0a1"
LINE = "#f1d0a2"
GOOD = "#f1d0a3"
BAD = "#f1d0a4"
ACCENT = "#f1d0a5"
PAPER = "#f1d0a6"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", GOOD: "good", BAD: "bad", ACCENT: "accent", PAPER: "paper"}
_VARIABLES |= {f"#f1d00{index}": f"s{index}" for index in range(SERIES_COLOURS)}
_REFERENCE = r"url\(#([^)\"']+)\)|href=\"#([^\"]+)\""
TOP, RIGHT = 15, 10  # pixels beside the axes
_DPI = 72  # the SVG backend's: one figure unit is one CSS pixel
_RENDERING = threading.Lock()  # rc_context changes matplotlib's settings for the whole process


@dataclass(frozen=True)
class Fact:
    name: str
    text: str
    note: str = ""


class Album:
    """Thumbnails by dataset path, each made once."""

    def __init__(self, source: Callable[[str], Pixels | None] | None) -> None:
        self._source = source
        self._made: dict[str, str | None] = {}

    def uri(self, path: str) -> str | None:
        """A JPEG of at most 96 pixels as a data URI; None where there is no such image."""
        if path not in self._made:
            pixels = None if self._source is None else self._source(path)
            self._made[path] = None
            if pixels is not None:
                image = Image.fromarray(pixels)
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                self._made[path] = data_uri(np.asarray(image), quality=80)
        return self._made[path]


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
        "colours": SERIES_COLOURS,
        "span": words.span,
        "style": Markup(text("style.css")),
        "policy": Markup(policy),
    }
    return environment.get_template(template).render(**facts, origin=origin)


def series_colour(index: int) -> str:
    """The token colour of the `index`-th model, class or curve.

    >>> series_colour(9) == series_colour(1)
    True
    """
    return f"#f1d00{index % SERIES_COLOURS}"


def series_dash(index: int) -> str:
    """The line style that keeps series of the same hue apart.

    >>> series_dash(1), series_dash(9)
    ('-', '--')
    """
    return ("-", "--", ":")[index // SERIES_COLOURS % 3]


def canvas(width: int, height: int, left: int = 56, bottom: int = 40) -> tuple[Figure, Axes]:
    """An empty figure, `width` × `height` CSS pixels, with one pair of calm axes.

    The room for words, `left` and `bottom`, is fixed, so that figures beside each other line up, and because
    matplotlib's layout engines draw every figure twice more.
    """
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasSVG(figure)
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + RIGHT) / width, 1 - (bottom + TOP) / height))
    axes.set_facecolor("none")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(visible=True, color=LINE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11, labelcolor=MUTED, pad=5, which="both")
    axes.minorticks_off()
    return figure, axes


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Write what the two axes show."""
    axes.set_xlabel(x, fontsize=11, color=MUTED)
    axes.set_ylabel(y, fontsize=11, color=MUTED)
    # Fixed places, near the figure's edges: matplotlib would measure every tick label to find them.
    axes.xaxis.set_label_coords(0.5, (15 - axes.bbox.y0) / axes.bbox.height)
    axes.yaxis.set_label_coords((15 - axes.bbox.x0) / axes.bbox.width, 0.5)


def ticks(axis: Axis, at: Locator, write: Callable[[float], str]) -> None:
    """Put the ticks of an axis where a locator says, and write their values."""
    axis.set_major_locator(at)
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def percent_axis(axes: Axes) -> None:
    """Write the values of the vertical axis, which are shares, in percent."""
    ticks(axes.yaxis, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]), lambda value: f"{100 * value:.3g} %")


def probit_axes(
    axes: Axes, lows: Sequence[float], high: float, rates: Sequence[float], room: float = 0.0, most: int = 99
) -> None:
    """Let a DET plot go from `room` below `lows` to `high`, in probits, and write the rates between.

    Of more than `most` rates every second is written, the last one included.
    """
    for axis, low, setter in ((axes.xaxis, lows[0], axes.set_xlim), (axes.yaxis, lows[1], axes.set_ylim)):
        setter(low - room, high)
        shown = [rate for rate in rates if low <= probit([rate])[0] <= high]
        at = FixedLocator(probit(shown if len(shown) <= most else shown[::-2][::-1]).tolist())
        ticks(axis, at, lambda value: f"{50 * math.erfc(-value / math.sqrt(2)):.3g} %")
    name_axes(axes, "false-accept rate", "false-reject rate")


def plain(text: str, limit: int = 24) -> str:
    """A foreign name as matplotlib text: shortened to `limit` characters, no mathematics, no line breaks.

    >>> plain("cost $5 and $6")
    'cost \\\\$5 and \\\\$6'
    >>> plain("abcdefgh", limit=5)
    'abcd…'
    """
    line = " ".join(text.split())
    short = line if len(line) <= limit else line[: limit - 1] + "…"
    return "".join(letter for letter in short if letter.isprintable()).replace("$", r"\$")


def text_width(text: str, size: int) -> float:
    """About how many pixels a text takes in a browser's sans-serif; East Asian letters are square.

    >>> text_width("abc", 10) < text_width("日本語", 10)
    True
    """
    return sum(size if unicodedata.east_asian_width(letter) in "WF" else 0.6 * size for letter in text)


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """The figure as an `<svg>` element: text as text, a transparent ground, no style sheet or addresses of its own.

    `key` is unique in the page, every id starts with it; `label` is what a screen reader says instead of the image.
    """
    stream = io.StringIO()
    with _RENDERING, rc_context({"svg.fonttype": "none", "svg.image_inline": True}), warnings.catch_warnings():
        # The reader's browser has the glyphs of a name that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(stream, format="svg", transparent=True)
    body = stream.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _slimmer(tag[0]), re.sub(r">\s+<", "><", body))
    width, height = (round(value * _DPI) for value in figure.get_size_inches())
    opening = (
        f'<svg class="plot" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
        f' style="--natural: {width}px"'
        f' aria-label="{html.escape(label, quote=True)}">'
    )
    return opening + re.sub(r"^<svg[^>]*>", "", own_ids(body, key))


def own_ids(svg: str, key: str) -> str:
    """Rename the ids of an SVG to `key-0`, `key-1` … and drop those that nothing refers to."""
    tags = "".join(re.findall(r"<[^>]+>", svg))
    found = dict.fromkeys(first or second for first, second in re.findall(_REFERENCE, tags))
    names = {name: f"{key}-{number}" for number, name in enumerate(found)}
    return re.sub(r"<[^>]+>", lambda tag: _renamed(tag[0], names), svg)


def _renamed(tag: str, names: dict[str, str]) -> str:
    """One tag with its own id and its references renamed; an id that has no new name is dropped."""
    tag = re.sub(r'\sid="([^"]*)"', lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", tag)
    tag = re.sub(r"url\(#([^)\"']+)\)", lambda found: f"url(#{names[found[1]]})", tag)
    return re.sub(r'href="#([^"]+)"', lambda found: f'href="#{names[found[1]]}"', tag)


def _slimmer(tag: str) -> str:
    """One tag of matplotlib's on one line: the page's fonts and colours, coordinates to a hundredth of a pixel."""
    tag = re.sub(r"\s*\n\s*", "" if "base64" in tag else " ", tag)
    tag = re.sub(r"font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r"#f1d0[0a][0-9]", lambda found: f"var(--{_VARIABLES[found[0]]})", tag)
    tag = re.sub(r"(\.\d\d)\d+(?=[\s\"),])", r"\1", tag)
    return re.sub(r' transform="rotate\(-0 [^"]*\)"', "", tag)


def embedded(svg: str, key: str) -> str:
    """A foreign SVG document as an element of the page: its own ids, no prolog, no namespace addresses.

    >>> embedded('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><g id="a"/></svg>', "k")
    '<svg><g/></svg>'
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<svg[^>]*>", lambda tag: re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag[0]), body)
    return own_ids(body, key)
