"""A matplotlib figure as an inline SVG in the page's CSS variables for colours, so one drawing serves light and dark.

matplotlib only knows fixed colours: figures are drawn in the token colours below, which stand for nothing, and
`inline_svg` replaces each token by `var(--name)`. No pyplot: a `Figure` is made, drawn and dropped.
"""

from __future__ import annotations

import html
import io
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator

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
