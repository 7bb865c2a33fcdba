"""The table of public weights: every row can be had, checked and fed."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from facewright.errors import UnknownName
from facewright.models import catalog, released, weight_matching
from facewright.models.released import RELEASED, Weights

HOSTS = {"github.com", "huggingface.co", "dl.fbaipublicfiles.com"}
ROWS = [pytest.param(row, id=f"{row.architecture}@{row.name}") for row in RELEASED]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_whole(row: Weights) -> None:
    address = urlsplit(row.source)
    assert address.scheme == "https" and address.hostname in HOSTS
    assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8,9}", row.sha256)
    assert len(row.sha256) == 64 or row.source.removesuffix(".pth").endswith(f"-{row.sha256}")
    assert row.licence and row.published and row.classes >= 1
    assert row.architecture in catalog.names()
    assert re.fullmatch(r"[a-z0-9_]+", row.name) and row.name != "none"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_fed_what_its_network_takes(row: Weights) -> None:
    facts = catalog.describe(row.architecture)
    assert row.spec.height == row.spec.width >= facts.smallest_side
    if facts.family not in released.HABITS:
        assert (row.spec.mean, row.spec.std) == (released.IMAGENET_MEAN, released.IMAGENET_STD)


def test_names_are_unique() -> None:
    titles = [(row.architecture, row.name) for row in RELEASED]
    assert len(set(titles)) == len(titles)
    assert len({row.source for row in RELEASED}) == len({row.sha256 for row in RELEASED}) == len(RELEASED)


def test_timm_rows_have_a_rule_where_the_names_differ() -> None:
    for row in RELEASED:
        family = catalog.describe(row.architecture).family
        theirs = {naming.name for naming in weight_matching.namings(family)}
        same = {"resnet", "resnext", "wide_resnet", "seresnet", "resnest", "densenet", "vit", "xception"}
        assert row.rule in theirs or family in same | {"inception_resnet"}


@pytest.mark.parametrize("architecture", ["resnet19", ""])
def test_unknown_architectures(architecture: str) -> None:
    with pytest.raises(UnknownName):
        released.released(architecture)


# architecture -> side, mean and deviation of its files
@pytest.mark.parametrize(
    ("architecture", "side", "mean", "std"),
    [
        ("resnet50", 224, 0.485, 0.229),
        ("xception", 299, 0.5, 0.5),
        ("vit_s_16", 224, 0.5, 0.5),
        ("mobilefacenet", 112, 0.5, 0.5),
        ("iresnet50", 112, 0.5, 0.5),
        ("inception_resnet_v1", 160, 0.5, 128 / 255),
    ],
)
def test_what_files_of_unknown_origin_expect(architecture: str, side: int, mean: float, std: float) -> None:
    spec = released.expected_input(architecture)
    assert (spec.height, spec.width, spec.mean[0], spec.std[0]) == (side, side, mean, std)
    assert spec.colour_order == "rgb"


def test_pixels_reach_facenet_as_its_authors_standardise_them() -> None:
    spec = released.expected_input("inception_resnet_v1")
    for pixel in (0, 100, 255):  # (x - 127.5) / 128
        assert (pixel / 255 - spec.mean[0]) / spec.std[0] == pytest.approx((pixel - 127.5) / 128)
