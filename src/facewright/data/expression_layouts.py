"""Data sets of facial expressions: FER-2013, FER+, RAF-DB, AffectNet."""

from __future__ import annotations

import io

import numpy as np

from facewright.data.label_files import class_names
from facewright.data.layout_reading import Options, described, header_of, numbered_names, rows_of, text_called
from facewright.data.pixel_rows import open_pixel_rows
from facewright.data.records import Dataset
from facewright.data.trees import Tree, folder_of
from facewright.errors import BadImage, DataError

FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
RAF = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")


def is_fer(tree: Tree) -> str | None:
    """Tell why a tree is FER-2013, or None."""
    for text in tree.texts:
        if text.lower().endswith(".csv") and {"pixels"} < set(header_of(tree, text)):
            return f"{text} holds pixels"
    return None


def read_fer(tree: Tree, options: Options) -> Dataset:
    """Read FER-2013."""
    text = next((text for text in tree.texts if "pixels" in header_of(tree, text)), None)
    if text is None:
        raise DataError(f"{tree.where}: expected a table with a column of pixels, as fer2013.csv")
    header = header_of(tree, text)
    votes = text_called(tree, r"fer2013new\.csv")
    known = set(header) <= {"emotion", "pixels", "usage"}
    names = class_names(options["names"]) if "names" in options else (numbered_names(FER) if known else {})
    return open_pixel_rows(tree, text, names, options, votes=None if votes is None else _votes(tree, votes))


def _votes(tree: Tree, text: str) -> list[tuple[str, dict[str, str]]]:
    """FER+: image name and facts; the label is what most annotators voted for. Source: Barsoum et al., 2016."""
    rows = rows_of(tree, text)
    header = [value.casefold() for value in rows[0]]
    if min(map(len, rows)) < 3:
        raise DataError(f"{tree.where}: {text}: expected an image and its votes in each row")
    if "neutral" in header:  # Usage, Image name, neutral, …, unknown, NF
        first = header.index("neutral")
        body = [(row[first - 1], row[0], row[first:]) for row in rows[1:]]
    else:  # fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,…
        body = [(row[0], "", row[2:]) for row in rows]
    found = []
    for name, usage, values in body:
        counts = [int(value) if value.isdigit() else 0 for value in values]
        best = max(counts, default=0)
        winners = [number for number, count in enumerate(counts) if count == best]
        label = FERPLUS[winners[0]] if len(winners) == 1 and winners[0] < len(FERPLUS) and best else ""
        split = {"training": "train", "publictest": "validation", "privatetest": "test"}.get(usage.casefold(), "")
        votes = {vote: str(count) for vote, count in zip(FERPLUS, counts, strict=False)}
        found.append((name, votes | {"expression": label, "split": split}))
    return found


def is_ferplus(tree: Tree) -> str | None:
    """Tell why a tree is FER+, or None."""
    folders = {"fer2013train", "fer2013valid", "fer2013test"} & {folder.casefold() for folder in tree.folders}
    text = text_called(tree, r"fer2013new\.csv")
    if text is not None and is_fer(tree) is None:
        return f"{text} holds the votes of FER+"
    return f"the folder {min(folders)} is of FER+" if folders and text_called(tree, r"label\.csv") else None


def read_ferplus(tree: Tree, options: Options) -> Dataset:
    """Read FER+."""
    texts = [t for t in tree.texts if t.rpartition("/")[2].casefold() in ("fer2013new.csv", "label.csv")]
    images = []
    for text in texts:
        folder = folder_of(text)
        split = {"fer2013train": "train", "fer2013valid": "validation", "fer2013test": "test"}.get(
            folder.casefold(), ""
        )
        for name, facts in _votes(tree, text):
            if name:
                images.append((f"{folder}/{name}" if split else name, facts | ({"split": split} if split else {})))
    note = "images without a majority of votes are left out"
    return described(tree, options, images, ("expression", *FERPLUS), "expression", note=note)


_RAF_LIST = r"list_par?tition_label\.txt"  # "patition" in the original


def is_raf(tree: Tree) -> str | None:
    """Tell why a tree is RAF-DB, or None."""
    text = text_called(tree, _RAF_LIST)
    if text is not None:
        return f"{text} is RAF-DB's"
    both = text_called(tree, r"train_labels\.csv") and text_called(tree, r"test_labels\.csv")
    folders = {folder_of(path).rpartition("/")[2] for path in tree.files}
    return "train_labels.csv, test_labels.csv and folders 1 to 7" if both and folders == set("1234567") else None


def read_raf(tree: Tree, options: Options) -> Dataset:
    """Read RAF-DB."""
    text = text_called(tree, _RAF_LIST)
    images = []
    if text is not None:
        for name, label in rows_of(tree, text, 2):
            stem, _, suffix = name.rpartition(".")
            aligned = f"{stem}_aligned.{suffix}"
            split = "test" if name.casefold().startswith("test") else "train"
            images.append((aligned if tree.find(aligned) else name, {"expression": label, "split": split}))
    else:
        for path in tree.files:
            split, label = ["", "", *path.split("/")][-3:-1]
            images.append((path, {"expression": label, "split": split.casefold()}))
    return described(tree, options, images, ("expression",), "expression", names={"expression": numbered_names(RAF, 1)})


def is_affectnet(tree: Tree) -> str | None:
    """Tell why a tree is AffectNet, or None."""
    for folder in tree.folders:
        if folder.endswith("annotations") and f"{folder_of(folder)}/images".lstrip("/") in tree.folders:
            return f"{folder}/ and images/ beside it"
    return None


def read_affectnet(tree: Tree, options: Options) -> Dataset:
    """Read AffectNet."""
    images = []
    for path in tree.files:
        folder, _, name = path.rpartition("/")
        base = f"{folder_of(folder)}/annotations/{name.rpartition('.')[0]}".lstrip("/")
        facts = {key: _scalar(tree, f"{base}_{key[:3]}.npy") for key in ("expression", "valence", "arousal")}
        facts["split"] = "train" if "train" in path.casefold() else ("validation" if "val" in path.casefold() else "")
        images.append((path, facts))
    names = {"expression": numbered_names(AFFECTNET)}
    return described(tree, options, images, ("expression", "valence", "arousal"), "expression", names=names)


def _scalar(tree: Tree, file: str) -> str:
    """The one value of a .npy; "" where there is none. Nothing is unpickled."""
    try:
        value = np.load(io.BytesIO(tree.source.content(file)), allow_pickle=False)
    except (BadImage, ValueError, EOFError, OSError):
        return ""
    return str(value.reshape(-1)[0]).strip() if value.size == 1 else ""
