"""An architecture as one drawing: from the input image down to the scores, one box per block.

The width of a box hints at the side of its output (each halving takes the same step), its height at the channels
(each doubling adds the same), its colour says the stage. Text and lines take the colour of the text around them, so one
drawing serves light and dark pages; as a file of its own it follows the viewer's preference.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from math import log2

from torch import nn

from facewright.models.blocks import Model, SqueezeExcitation
from facewright.models.summary import BlockRow, ModelSummary, by_block, group_repeats, summarize
from facewright.models.xception import SeparableConv2d

WIDTH = 940  # px of the drawing; its height follows from the number of boxes
LEFT, MIDDLE = 108, 345  # where the brackets of the stages stand, and the line along which the data flows
SHAPE, PARAMETERS, WORK = 690, 784, 804  # right edge, right edge and left edge of the three columns
NARROW, WIDE = 160, 390  # px: a box whose output has side 1, and one as wide as the photo
LONGEST = 86  # px: the bar of the box with the most FLOPs
TOP = 104  # px above the photo
HUES = ("#3d85c6", "#2a9d8f", "#d98a1f", "#cf5b45", "#8a63c4")  # the stages of the body, in turn
GREY = "#8b929c"  # stem and head
STYLE = (
    "svg:root{color:#1b1e23;background:#fff}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e6e8eb;background:#15171b}}"
)
NUMBER = 'text-anchor="end" style="font-variant-numeric:tabular-nums"'
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


@dataclass(frozen=True)
class Box:
    """Blocks in a row that are alike, drawn once."""

    row: BlockRow  # the first of them, with the parameters and FLOPs of all together
    repeat: int
    text: str  # what one of them computes
    hue: str
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def left(self) -> float:
        return MIDDLE - self.width / 2

    @property
    def end(self) -> float:
        """Return where the data leaves: below the sum, if there is one."""
        return self.sum + 7 if self.added else self.bottom + self.sheets * 4

    @property
    def added(self) -> bool:
        """Tell whether the input is added to the output."""
        return self.row.join in ("identity", "projection")

    @property
    def sum(self) -> float:
        """The height of the sum's centre."""
        return self.bottom + 11 + 4 * self.sheets

    @property
    def sheets(self) -> int:
        """Return how many more edges show behind the box."""
        return min(self.repeat, 3) - 1


def draw_architecture(model: Model, name: str, size: int) -> str:
    """Draw a model of the catalogue (on any device, meta too) block by block: shapes, parameters, work, shortcuts.

    The images it sees are square, `size` px. The SVG document has no scripts, fonts or addresses of others.
    """
    summary = summarize(model, size)
    boxes = _boxes(model, summary, size)
    height = round(boxes[-1].end + 108)
    label = html.escape(name, quote=True)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="Architecture of {label}" font-family="{FONT}" font-size="13" fill="currentColor">',
        f"<style>{STYLE}</style>",
        *_heading(name, summary, size),
        *_photo(size),
    ]
    start = float(TOP + 34)
    heaviest = max(box.row.flops for box in boxes)
    for box in boxes:
        lines += [_arrow(start, box.top), *_shortcut(box), *_block(box), *_numbers(box, heaviest, summary.flops)]
        start = box.end
    lines += [_arrow(start, start + 24), _text(MIDDLE, start + 40, "scores", 'text-anchor="middle"')]
    lines += [*_brackets(boxes), *_legend(boxes, height - 16), "</svg>"]
    return "\n".join(lines) + "\n"


def _boxes(model: Model, summary: ModelSummary, size: int) -> list[Box]:
    """Gather blocks that follow each other and are alike, and stack the boxes from top to bottom."""
    rows = by_block(model, summary)
    body = [stage for stage in dict.fromkeys(row.stage for row in rows) if stage not in ("stem", "head")]
    hues = {stage: HUES[index % len(HUES)] for index, stage in enumerate(body)}
    boxes: list[Box] = []
    y = float(TOP + 34)
    for first, repeat in group_repeats(rows):
        whole = replace(first, parameters=first.parameters * repeat, flops=first.flops * repeat)
        side = first.output_shape[-1] if len(first.output_shape) == 3 else 1
        text = _inside(model, first)
        width = max(NARROW + (WIDE - NARROW) * log2(side) / log2(size), 24 + 7.2 * len(text))
        height = 26 + 4 * max(0.0, log2(first.output_shape[0] / 32)) + (30 if first.join == "dense" else 0)
        y += 22 if first.join in ("none", "dense") else 34
        boxes.append(Box(whole, repeat, text, hues.get(first.stage, GREY), y, width, height))
        y = boxes[-1].end
    return boxes


def _inside(model: Model, row: BlockRow) -> str:
    """The convolutions, pools and linear layers of a block, in the field's shorthand."""
    modules = [model.get_submodule(path) for path in row.paths if path]
    if row.join == "dense":
        layers = list(modules[0].children())
        return f"{len(layers)} × ({' → '.join(_steps(layers[0]))})"
    steps = [(step, len(list(same))) for step, same in groupby(step for module in modules for step in _steps(module))]
    return " → ".join(step if count == 1 else f"{count} × ({step})" for step, count in steps)


def _steps(module: nn.Module) -> Iterator[str]:
    """The layers below a module in shorthand, without its shortcut; one that knows its own `shorthand` is one step."""
    shorthand = getattr(module, "shorthand", None)
    if isinstance(shorthand, str):
        yield shorthand
        return
    if isinstance(module, SeparableConv2d):
        yield f"sep 3×3 {module.pointwise.out_channels}"
    elif isinstance(module, SqueezeExcitation):
        yield f"SE {module.fc1.out_channels}"
    elif isinstance(module, nn.Conv2d):
        yield _convolution(module)
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        yield f"{'max' if isinstance(module, nn.MaxPool2d) else 'mean'} pool /{module.stride}"
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        side = module.output_size
        yield "mean over H × W" if side in (1, (1, 1)) else f"mean to {side} × {side}"
    elif isinstance(module, nn.Linear):
        yield f"linear {module.in_features:,} → {module.out_features:,}"
    for path, child in module.named_children():
        if not isinstance(module, SeparableConv2d | SqueezeExcitation) and path not in ("downsample", "skip", "proj"):
            yield from _steps(child)


def _convolution(layer: nn.Conv2d) -> str:
    """Kernel, channels, groups and stride.

    >>> _convolution(nn.Conv2d(64, 128, 3, stride=2, groups=32)), _convolution(nn.Conv2d(64, 64, (1, 7), groups=64))
    ('3×3 128 in 32 /2', 'dw 1×7 64')
    """
    kernel = "×".join(str(length) for length in layer.kernel_size)
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    groups = f" in {layer.groups}" if layer.groups > 1 and not depthwise else ""
    stride = f" /{layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{'dw ' if depthwise else ''}{kernel} {layer.out_channels}{groups}{stride}"


def _heading(name: str, summary: ModelSummary, size: int) -> list[str]:
    """The title, the totals, and the names of the columns."""
    totals = f"{_short(summary.parameters)} parameters · {_short(summary.flops)}FLOPs for a photo of {size} × {size} px"
    faint = 'opacity="0.65" font-size="12"'
    return [
        _text(24, 38, name, 'font-size="22" font-weight="650"'),
        _text(24, 62, totals, 'opacity="0.75" font-size="14"'),
        _text(SHAPE, TOP - 10, "output C × H × W", f'text-anchor="end" {faint}'),
        _text(PARAMETERS, TOP - 10, "parameters", f'text-anchor="end" {faint}'),
        _text(WORK, TOP - 10, "share of FLOPs", faint),
    ]


def _photo(size: int) -> list[str]:
    """Return what goes in: a small face."""
    x, y = MIDDLE, TOP + 17
    line = 'fill="none" stroke="currentColor" stroke-width="1.4"'
    return [
        _text(SHAPE, y + 4.5, f"3 × {size} × {size}", NUMBER),
        f'<rect x="{x - 17}" y="{y - 17}" width="34" height="34" rx="5" {line}/>',
        f'<circle cx="{x}" cy="{y}" r="11" {line}/>',
        f'<circle cx="{x - 4}" cy="{y - 3}" r="1.5"/><circle cx="{x + 4}" cy="{y - 3}" r="1.5"/>',
        f'<path d="M{x - 5} {y + 4}Q{x} {y + 9} {x + 5} {y + 4}" {line}/>',
    ]


def _block(box: Box) -> list[str]:
    """The box itself; edges behind it say that there are more of its kind."""
    sheets = [
        f'<path d="M{box.left + box.width + 4 * depth - 3:.1f} {box.top + 4 * depth:.1f}q3 0 3 4'
        f"V{box.bottom + 4 * depth - 6:.1f}q0 6 -6 6H{box.left + 4 * depth + 4:.1f}q-4 0 -4 -3"
        f'" fill="none" stroke="{box.hue}" stroke-width="1.3" opacity="0.75"/>'
        for depth in range(box.sheets, 0, -1)
    ]
    middle = box.top + (20 if box.row.join == "dense" else box.height / 2 + 4.5)
    front = (
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6"'
        f' fill="{box.hue}" fill-opacity="0.22" stroke="{box.hue}" stroke-width="1.5"/>'
    )
    lines = [*sheets, front, _text(MIDDLE, middle, box.text, 'text-anchor="middle"')]
    if box.repeat > 1:
        where = f'text-anchor="end" font-weight="650" fill="{box.hue}"'
        lines.append(_text(box.left - 8, box.top + box.height / 2 + 4.5, f"×{box.repeat}", where))
    return lines + (_dense_sketch(box) if box.row.join == "dense" else [])


def _dense_sketch(box: Box) -> list[str]:
    """Seven points, each joined to all before it."""
    y, step = box.bottom - 8, 26
    xs = [MIDDLE + step * (index - 3) for index in range(7)]
    arcs = "".join(
        f"M{xs[a]} {y}Q{(xs[a] + xs[b]) / 2} {y - 8 * (b - a)} {xs[b]} {y}" for a in range(7) for b in range(a + 1, 7)
    )
    points = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x in xs)
    return [
        f'<path d="{arcs}" fill="none" stroke="{box.hue}" stroke-opacity="0.75"/>',
        f'<g fill="{box.hue}">{points}</g>',
    ]


def _shortcut(box: Box) -> list[str]:
    """The way around a residual block, and the sum below it; dashed where a 1x1 convolution lies on it."""
    if not box.added:
        return []
    dashes = ' stroke-dasharray="5 3"' if box.row.join == "projection" else ""
    start, y, right = box.top - 14, box.sum, MIDDLE + box.width / 2 + 24
    way = f"M{MIDDLE} {start:.1f}H{right - 8:.1f}q8 0 8 8V{y - 8:.1f}q0 8 -8 8H{MIDDLE + 7}"
    line = 'fill="none" stroke="currentColor" stroke-width="1.4"'
    return [
        f'<path d="{way}" {line} opacity="0.7"{dashes}/>',
        f'<g {line}><circle cx="{MIDDLE}" cy="{y:.1f}" r="7"/>'
        f'<path d="M{MIDDLE - 4} {y:.1f}h8M{MIDDLE} {y - 4:.1f}v8M{MIDDLE} {box.bottom:.1f}V{y - 7:.1f}"/></g>',
    ]


def _arrow(start: float, end: float) -> str:
    return (
        f'<path d="M{MIDDLE} {start:.1f}V{end - 1:.1f}m-4 -5l4 5l4 -5" fill="none" stroke="currentColor"'
        ' stroke-width="1.4" opacity="0.7"/>'
    )


def _numbers(box: Box, heaviest: int, total: int) -> list[str]:
    """The three columns beside a box."""
    y = box.top + box.height / 2 + 4.5
    lines = [_text(SHAPE, y, " × ".join(str(length) for length in box.row.output_shape), NUMBER)]
    if box.row.parameters:
        lines.append(_text(PARAMETERS, y, _short(box.row.parameters), NUMBER))
    if box.row.flops:
        length = max(1.0, LONGEST * box.row.flops / heaviest)
        share = 100 * box.row.flops / total
        percent = f"{share:.0f} %" if share >= 1 else "< 1 %"
        lines.append(
            f'<rect x="{WORK}" y="{y - 10:.1f}" width="{length:.1f}" height="11" rx="2" fill="{box.hue}"'
            ' fill-opacity="0.8"/>'
        )
        lines.append(_text(WORK + length + 6, y, percent, 'font-size="12" opacity="0.75"'))
    return lines


def _brackets(boxes: list[Box]) -> list[str]:
    """The stages, at the left of their boxes."""
    lines = []
    for stage, group in groupby(boxes, key=lambda box: box.row.stage):
        inside = list(group)
        top, bottom, hue = inside[0].top, inside[-1].bottom, inside[0].hue
        lines.append(f'<path d="M{LEFT} {top:.1f}V{bottom:.1f}" stroke="{hue}" stroke-width="4" fill="none"/>')
        lines.append(_text(LEFT - 12, (top + bottom) / 2 + 4.5, stage, 'text-anchor="end" font-weight="650"'))
    return lines


def _legend(boxes: list[Box], y: float) -> list[str]:
    """Return what the signs mean, of those that occur."""
    joins, texts = {box.row.join for box in boxes}, [box.text for box in boxes]
    signs = {
        "7×7 64 /2: kernel, channels, stride": True,
        "narrower: smaller side": True,
        "higher: more channels": True,
        "sep: depthwise, then 1×1": any(text.startswith("sep") or "(sep" in text for text in texts),
        "dw: depthwise": any("dw " in text for text in texts),
        "in 32: in 32 groups": any(" in " in text for text in texts),
        "SE 16: channels weighed, by way of 16": any("SE " in text for text in texts),
        "×3: three alike in a row": any(box.repeat > 1 for box in boxes),
        "line around a box: shortcut, added": "identity" in joins,
        "dashed: with a 1×1 convolution": "projection" in joins,
        "arcs: each layer reads all before it": "dense" in joins,
    }
    words = [text for text, occurs in signs.items() if occurs]
    half = (len(words) + 1) // 2
    faint = 'font-size="12" opacity="0.65"'
    return [_text(24, y - 18, " · ".join(words[:half]), faint), _text(24, y, " · ".join(words[half:]), faint)]


def _text(x: float, y: float, words: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{html.escape(words)}</text>'


def _short(count: int) -> str:
    """A count in three digits.

    >>> _short(25_557_032), _short(9_408), _short(64)
    ('25.6 M', '9.41 K', '64')
    """
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:#.3g}".rstrip(".") + f" {letter}"
    return str(count)
