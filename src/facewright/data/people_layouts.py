"""Data sets of people: attributes, ages, and who is who."""

from __future__ import annotations

import re

from facewright.data.layout_reading import (
    Options,
    choose_label,
    described,
    header_of,
    numbered_names,
    rows_of,
    text_called,
)
from facewright.data.records import Dataset
from facewright.data.text_tables import decode
from facewright.data.trees import Tree, folder_of
from facewright.errors import DataError

UTK_RACES = ("white", "black", "asian", "indian", "other")

_YES_OR_NO = {"1", "-1", "0"}
_CELEBA_SPLITS = {"0": "train", "1": "validation", "2": "test"}


def is_celeba(tree: Tree) -> str | None:
    """Tell why a tree is CelebA, or None."""
    text = text_called(tree, r"(identity_celeba|list_attr_celeba|list_eval_partition)\.(txt|csv)")
    return None if text is None else f"{text} is CelebA's"


def _celeba(tree: Tree, stem: str) -> dict[str, dict[str, str]]:
    """Image → column → value of one of CelebA's lists, with or without its first lines; {} where it is not there."""
    text = text_called(tree, rf"{stem}\.(txt|csv)")
    if text is None:
        return {}
    lines = decode(tree.source.content(text), text).splitlines()
    rows = [re.split(r"[,\s]+", line.strip()) for line in lines if line.strip()]
    if rows and len(rows[0]) == 1 and rows[0][0].isdigit():  # the number of images
        rows.pop(0)
    header: list[str] = []
    if rows and not re.search(r"\.(jpg|png)$", rows[0][0]):
        header = rows.pop(0)
    header = header[1:] if header and header[0].casefold() == "image_id" else header
    width = len(header) + 1 if header else 2
    wrong = next((row for row in rows if len(row) != width), None)
    if not rows or wrong is not None:
        raise DataError(
            f"{tree.where}: {text}: expected {len(header) or 1} values for each image, got {wrong or 'none'}"
        )
    header = header or ["value"]
    odd = next((row for row in rows if stem == "list_attr_celeba" and not set(row[1:]) <= _YES_OR_NO), None)
    if odd is not None:
        other = next(value for value in odd[1:] if value not in _YES_OR_NO)
        raise DataError(f"{tree.where}: {text}: expected 1 or -1 for each attribute of {odd[0]}, got {other!r}")
    return {row[0]: dict(zip(header, row[1:], strict=True)) for row in rows}


def read_celeba(tree: Tree, options: Options) -> Dataset:
    """Read CelebA."""
    people, parts = _celeba(tree, "identity_celeba"), _celeba(tree, "list_eval_partition")
    attributes, points = _celeba(tree, "list_attr_celeba"), _celeba(tree, r"list_landmarks_(align_)?celeba")
    names = sorted({*people, *parts, *attributes} if not tree.whole else {*people, *parts, *attributes, *points})
    unlabelled = next(iter(attributes or people or parts), None)
    if parts and unlabelled is not None and not set(parts) & set(attributes or people or parts):
        raise DataError(
            f"{tree.where}: list_eval_partition names none of the images of the other lists; is it of another set?"
        )
    columns = list(next(iter(attributes.values()), {}))
    images = []
    for name in names:
        facts = {key: "1" if value == "1" else "0" for key, value in attributes.get(name, {}).items()}
        facts |= points.get(name, {})
        facts["identity"] = next(iter(people.get(name, {}).values()), "")
        facts["split"] = _CELEBA_SPLITS.get(next(iter(parts.get(name, {}).values()), ""), "")
        images.append((name, facts))
    landmarks = list(next(iter(points.values()), {}))
    usual = "identity" if people else (columns[0] if columns else "")
    if not usual:
        raise DataError(f"{tree.where}: found CelebA's parts without identities or attributes; add identity_CelebA.txt")
    note = ""
    if usual == "identity" and choose_label(tree, options, [*columns, *landmarks, "identity"], usual) == "identity":
        images = [(name, facts | {"split": ""}) for name, facts in images]
        note = "CelebA's parts have other people each; for telling these people apart they are not used"
    return described(tree, options, images, [*columns, *landmarks, *(["identity"] if people else [])], usual, note=note)


_UTK = r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d{8,20}.*"
_AGEDB = r"\d+_(?P<identity>[^_]+)_(?P<age>\d{1,3})_(?P<gender>[mf])\.\w+"
_IMDB = r"(?P<identity>(?:nm)?\d+)_(?:rm\d+_)?(?P<born>\d{4})-\d{1,2}-\d{1,2}_(?P<taken>\d{4})\.\w+"


def _from_names(tree: Tree, pattern: str) -> list[tuple[str, dict[str, str]]]:
    """Path and facts of images whose names hold them; a name that does not fit gives none."""
    found = []
    for path in tree.files:
        match = re.fullmatch(pattern, path.rpartition("/")[2])
        found.append((path, {} if match is None else {key: value or "" for key, value in match.groupdict().items()}))
    return found


def _mostly(tree: Tree, pattern: str) -> str | None:
    """A reason where nearly all file names fit a pattern."""
    names = [path.rpartition("/")[2] for path in tree.files]
    if not any(re.fullmatch(pattern, name) for name in names[:100]):
        return None
    fits = sum(re.fullmatch(pattern, name) is not None for name in names)
    return f"{fits:,} of {len(tree.files):,} file names" if tree.files and fits >= 0.9 * len(tree.files) else None


def is_utkface(tree: Tree) -> str | None:
    """Tell why a tree is UTKFace, or None."""
    return _mostly(tree, _UTK)


def is_agedb(tree: Tree) -> str | None:
    """Tell why a tree is AgeDB, or None."""
    return _mostly(tree, _AGEDB)


def is_imdb(tree: Tree) -> str | None:
    """Tell why a tree is IMDB-Wiki, or None."""
    return _mostly(tree, _IMDB)


def read_utkface(tree: Tree, options: Options) -> Dataset:
    """Read UTKFace."""
    names = {"gender": {"0": "male", "1": "female"}, "race": numbered_names(UTK_RACES)}
    return described(tree, options, _from_names(tree, _UTK), ("age", "gender", "race"), "gender", names=names)


def read_agedb(tree: Tree, options: Options) -> Dataset:
    """Read AgeDB."""
    names = {"gender": {"m": "male", "f": "female"}}
    return described(tree, options, _from_names(tree, _AGEDB), ("identity", "age", "gender"), "identity", names=names)


def read_imdb(tree: Tree, options: Options) -> Dataset:
    """Read IMDB-Wiki."""
    images = []
    for path, facts in _from_names(tree, _IMDB):
        if facts:
            age = int(facts["taken"]) - int(facts["born"])
            facts["age"] = str(age) if 0 <= age <= 120 else ""
        images.append((path, facts))
    return described(
        tree, options, images, ("age", "identity", "born", "taken"), "age", note="ages are years taken - born"
    )


def is_fairface(tree: Tree) -> str | None:
    """Tell why a tree is FairFace, or None."""
    for text in tree.texts:
        if {"file", "age", "gender", "race"} <= set(header_of(tree, text)):
            return f"{text} has the columns file, age, gender, race"
    return None


def read_fairface(tree: Tree, options: Options) -> Dataset:
    """Read FairFace."""
    texts = [text for text in tree.texts if {"file", "age", "gender", "race"} <= set(header_of(tree, text))]
    images = []
    for text in texts:
        rows = rows_of(tree, text)
        header = [value.casefold() for value in rows[0]]
        split = "train" if "train" in text.casefold() else ("validation" if "val" in text.casefold() else "")
        for values in rows[1:]:
            if len(values) != len(header):
                raise DataError(f"{tree.where}: {text}: expected {len(header)} values a row, got {values}")
            facts = dict(zip(header, values, strict=True))
            images.append((facts.pop("file"), facts | {"split": split if len(texts) > 1 else ""}))
    return described(tree, options, images, ("age", "gender", "race"), "age")


def is_vggface2(tree: Tree) -> str | None:
    """Tell why a tree is VGGFace2, or None."""
    text = text_called(tree, r"identity_meta\.csv|(train|test)_list\.txt")
    people = [folder for folder in tree.folders if re.fullmatch(r"(?:.*/)?n\d{6}", folder)]
    return (
        f"folders as {people[0]}"
        if people and (text or len(people) == len({folder_of(p) for p in tree.files}))
        else None
    )


def read_vggface2(tree: Tree, options: Options) -> Dataset:
    """Read VGGFace2."""
    meta = text_called(tree, r"identity_meta\.csv")
    rows = rows_of(tree, meta) if meta else []
    names = {row[0]: row[1].strip('" ') for row in rows[1:] if len(row) > 1}
    images = []
    for path in tree.files:
        person = path.split("/")[-2] if "/" in path else ""
        images.append((path, {"identity": names.get(person, person)}))
    note = "the folders train and test have other people each; for telling these people apart they are not used"
    parts = {path.split("/")[-3] for path in tree.files if path.count("/") > 1}
    return described(tree, options, images, ("identity",), "identity", note=note if len(parts) > 1 else "")


def is_casia(tree: Tree) -> str | None:
    """Tell why a tree is CASIA-WebFace, or None."""
    people = {folder_of(path) for path in tree.files}
    fits = bool(people) and all(re.fullmatch(r"(?:.*/)?\d{7}", folder) for folder in people)
    return "people in folders of seven digits" if fits else None


def is_lfw(tree: Tree) -> str | None:
    """Tell why a tree is LFW, or None."""
    fits = all(re.fullmatch(r"(?:.*/)?([^/]+)/\1_\d{4}\.\w+", path) for path in tree.files)
    return "images called Name/Name_0001.jpg" if tree.files and fits else None


def read_people(tree: Tree, options: Options) -> Dataset:
    """A folder per person; lists beside them are left alone."""
    images = [(path, {"identity": folder_of(path).rpartition("/")[2]}) for path in tree.files]
    return described(tree, options, images, ("identity",), "identity")
