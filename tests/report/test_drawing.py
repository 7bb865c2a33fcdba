"""The drawing of an architecture: a well-formed, self-contained SVG that says what the layer table says."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch

from facewright.models import catalog
from facewright.report.drawing import draw_architecture

SVG = "{http://www.w3.org/2000/svg}"


def draw(name: str, size: int, classes: int = 1000, title: str | None = None) -> str:
    with torch.device("meta"):
        model = catalog.create_model(name, classes, input_size=size)
    return draw_architecture(model, name if title is None else title, size)


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# architecture, side, what must be readable, shortcuts with a projection
@pytest.mark.parametrize(
    ("name", "size", "said", "dashed"),
    [
        (
            "resnet152",
            224,
            ["60.2 M parameters", "stage 3", "×35", "1024 × 14 × 14", "1×1 256 → 3×3 256 → 1×1 1024"],
            4,
        ),
        ("resnet18", 32, ["64 × 16 × 16", "stage 1", "×2", "2 × (3×3 64)"], 3),
        ("xception", 299, ["middle flow", "×8", "728 × 19 × 19", "3 × (sep 3×3 728)", "56 %"], 4),
        ("densenet121", 112, ["24 × (1×1 128 → 3×3 32)", "1024 × 3 × 3", "linear 1,024 → 1,000"], 0),
        ("seresnext50_32x4d", 224, ["1×1 128 → 3×3 128 in 32 → 1×1 256 → SE 16", "channels weighed"], 4),
        ("mobilenet_v2", 224, ["1×1 96 → dw 3×3 96 /2 → 1×1 24", "dw: depthwise"], 0),
        ("alexnet", 224, ["11×11 64 /4", "mean to 6 × 6", "linear 9,216 → 4,096"], 0),
    ],
)
def test_says_what_the_architecture_is(name: str, size: int, said: list[str], dashed: int) -> None:
    svg = draw(name, size)
    text = "\n".join(words(svg))
    assert [phrase for phrase in said if phrase not in text] == []
    assert svg.count("stroke-dasharray") == dashed


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50", 32),
        ("xception", 33),
        ("densenet161", 75),
        ("resnet34", 224),
        ("seresnext101_32x8d", 112),
        ("efficientnet_b4", 380),
        ("regnet_y_8gf", 64),
        ("squeezenet1_1", 32),
        ("vgg19_bn", 32),
    ],
)
def test_boxes_hold_their_text_and_do_not_touch(name: str, size: int) -> None:
    root = ElementTree.fromstring(draw(name, size))
    boxes = [
        {key: float(box.get(key, "nan")) for key in ("x", "y", "width", "height")}
        for box in root.iter(f"{SVG}rect")
        if box.get("stroke-width") == "1.5"
    ]
    assert len(boxes) > 8
    for above, below in pairwise(boxes):
        assert above["y"] + above["height"] < below["y"]
    for box in boxes:
        inside = [
            text.text or ""
            for text in root.iter(f"{SVG}text")
            if box["y"] < float(text.get("y", "nan")) < box["y"] + box["height"] and text.get("text-anchor") == "middle"
        ]
        assert len(inside) == 1
        assert 6 * len(inside[0]) < box["width"]  # about 6 px a letter at 13 px
        assert box["x"] > 100 and box["x"] + box["width"] < 560
    assert float(root.get("height", "nan")) > boxes[-1]["y"] + boxes[-1]["height"]


def test_a_title_is_text_and_nothing_of_it_markup() -> None:
    title = '<script>alert(1)</script>"&'
    svg = draw("resnet18", 32, title=title)
    root = ElementTree.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert words(svg)[0] == title
    assert root.get("aria-label") == f"Architecture of {title}"


def test_asks_nobody_for_anything_and_fits_light_and_dark() -> None:
    svg = draw("densenet121", 64)
    assert set(re.findall(r"https?://[^\"' ]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in svg and "@import" not in svg and "@font-face" not in svg
    assert "prefers-color-scheme:dark" in svg and "currentColor" in svg
    assert "svg:root" in svg  # inside a page, where it is not the root, the page's colours hold
