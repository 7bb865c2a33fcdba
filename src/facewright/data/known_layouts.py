"""The data sets of faces that people have: of expressions, of attributes and ages, and of who is who."""

from __future__ import annotations

import io
import re
from functools import partial

import numpy as np

from facewright.data.label_files import class_names
from facewright.data.layout_reading import (
    Layout,
    Options,
    choose_label,
    described,
    header_of,
    noted,
    numbered_names,
    open_pixel_rows,
    rows_of,
    text_called,
)
from facewright.data.records import SPLIT_NAMES, Dataset
from facewright.data.text_tables import decode
from facewright.data.trees import Tree, folder_of
from facewright.errors import BadImage, DataError

FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_FERPLUS_FOLDERS = {"fer2013train": "train", "fer2013valid": "validation", "fer2013test": "test"}
RAF = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")


def _is_fer(tree: Tree) -> str | None:
    tables = (text for text in tree.texts if text.lower().endswith(".csv"))
    return next((f"{text} holds pixels" for text in tables if {"pixels"} < set(header_of(tree, text))), None)


def _read_fer(tree: Tree, options: Options) -> Dataset:
    text = next((text for text in tree.texts if "pixels" in header_of(tree, text)), None)
    if text is None:
        raise DataError(f"{tree.where}: expected a table with a column of pixels, as fer2013.csv")
    header = header_of(tree, text)
    votes = text_called(tree, r"fer2013new\.csv")
    known = set(header) <= {"emotion", "pixels", "usage"}
    names = class_names(options.get("names")) or (numbered_names(FER) if known else {})
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
        split = SPLIT_NAMES.get(usage.casefold(), "")
        votes = {vote: str(count) for vote, count in zip(FERPLUS, counts, strict=False)}
        found.append((name, votes | {"expression": label, "split": split}))
    return found


def _is_ferplus(tree: Tree) -> str | None:
    folders = set(_FERPLUS_FOLDERS) & {folder.casefold() for folder in tree.folders}
    text = text_called(tree, r"fer2013new\.csv")
    if text is not None and _is_fer(tree) is None:
        return f"{text} holds the votes of FER+"
    return f"the folder {min(folders)} is of FER+" if folders and text_called(tree, r"label\.csv") else None


def _read_ferplus(tree: Tree, options: Options) -> Dataset:
    texts = [t for t in tree.texts if t.rpartition("/")[2].casefold() in ("fer2013new.csv", "label.csv")]
    images = []
    for text in texts:
        folder = folder_of(text)
        split = _FERPLUS_FOLDERS.get(folder.casefold(), "")
        for name, facts in _votes(tree, text):
            if name:
                images.append((f"{folder}/{name}" if split else name, facts | ({"split": split} if split else {})))
    note = "images without a majority of votes are left out"
    return noted(described(tree, options, images, ("expression", *FERPLUS), "expression"), note)


_RAF_LIST = r"list_par?tition_label\.txt"  # "patition" in the original


def _is_raf(tree: Tree) -> str | None:
    text = text_called(tree, _RAF_LIST)
    if text is not None:
        return f"{text} is RAF-DB's"
    both = text_called(tree, r"train_labels\.csv") and text_called(tree, r"test_labels\.csv")
    folders = {folder_of(path).rpartition("/")[2] for path in tree.files}
    return "train_labels.csv, test_labels.csv and folders 1 to 7" if both and folders == set("1234567") else None


def _read_raf(tree: Tree, options: Options) -> Dataset:
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


def _is_affectnet(tree: Tree) -> str | None:
    for folder in tree.folders:
        if folder.endswith("annotations") and f"{folder_of(folder)}/images".lstrip("/") in tree.folders:
            return f"{folder}/ and images/ beside it"
    return None


def _read_affectnet(tree: Tree, options: Options) -> Dataset:
    images = []
    for path in tree.files:
        folder, _, name = path.rpartition("/")
        base = f"{folder_of(folder)}/annotations/{name.rpartition('.')[0]}".lstrip("/")
        facts = {key: _scalar(tree, f"{base}_{key[:3]}.npy") for key in ("expression", "valence", "arousal")}
        facts["split"] = _part(path)
        images.append((path, facts))
    names = {"expression": numbered_names(AFFECTNET)}
    return described(tree, options, images, ("expression", "valence", "arousal"), "expression", names=names)


def _part(path: str) -> str:
    return "train" if "train" in path.casefold() else "validation" if "val" in path.casefold() else ""


def _scalar(tree: Tree, file: str) -> str:
    """The one value of a .npy; "" where there is none. Nothing is unpickled."""
    try:
        value = np.load(io.BytesIO(tree.source.content(file)), allow_pickle=False)
    except (BadImage, ValueError, EOFError, OSError):
        return ""
    return str(value.reshape(-1)[0]).strip() if value.size == 1 else ""


UTK_RACES = ("white", "black", "asian", "indian", "other")

_YES_OR_NO = {"1", "-1", "0"}
_CELEBA_SPLITS = {"0": "train", "1": "validation", "2": "test"}


def _is_celeba(tree: Tree) -> str | None:
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
        raise DataError(f"{tree.where}: {text}: expected {len(header) or 1} values an image, got {wrong or 'none'}")
    header = header or ["value"]
    odd = next((row for row in rows if stem == "list_attr_celeba" and not set(row[1:]) <= _YES_OR_NO), None)
    if odd is not None:
        other = next(value for value in odd[1:] if value not in _YES_OR_NO)
        raise DataError(f"{tree.where}: {text}: expected 1 or -1 for each attribute of {odd[0]}, got {other!r}")
    return {row[0]: dict(zip(header, row[1:], strict=True)) for row in rows}


def _read_celeba(tree: Tree, options: Options) -> Dataset:
    people, parts = _celeba(tree, "identity_celeba"), _celeba(tree, "list_eval_partition")
    attributes, points = _celeba(tree, "list_attr_celeba"), _celeba(tree, r"list_landmarks_(align_)?celeba")
    names = sorted({*people, *parts, *attributes} if not tree.whole else {*people, *parts, *attributes, *points})
    unlabelled = next(iter(attributes or people or parts), None)
    if parts and unlabelled is not None and not set(parts) & set(attributes or people or parts):
        raise DataError(f"{tree.where}: list_eval_partition names no image of the other lists; is it of another set?")
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
    known = [*columns, *landmarks, *(["identity"] if people else [])]
    if usual == "identity" and choose_label(tree, options, known, usual) == "identity":
        images = [(name, facts | {"split": ""}) for name, facts in images]
        note = "CelebA's parts have other people each; for telling these people apart they are not used"
    return noted(described(tree, options, images, known, usual), note)


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
    names = [path.rpartition("/")[2] for path in tree.files]
    if not any(re.fullmatch(pattern, name) for name in names[:100]):
        return None
    fits = sum(re.fullmatch(pattern, name) is not None for name in names)
    return f"{fits:,} of {len(names):,} file names" if fits >= 0.9 * len(names) else None


def _read_utkface(tree: Tree, options: Options) -> Dataset:
    names = {"gender": {"0": "male", "1": "female"}, "race": numbered_names(UTK_RACES)}
    return described(tree, options, _from_names(tree, _UTK), ("age", "gender", "race"), "gender", names=names)


def _read_agedb(tree: Tree, options: Options) -> Dataset:
    names = {"gender": {"m": "male", "f": "female"}}
    return described(tree, options, _from_names(tree, _AGEDB), ("identity", "age", "gender"), "identity", names=names)


def _read_imdb(tree: Tree, options: Options) -> Dataset:
    images = []
    for path, facts in _from_names(tree, _IMDB):
        if facts:
            age = int(facts["taken"]) - int(facts["born"])
            facts["age"] = str(age) if 0 <= age <= 120 else ""
        images.append((path, facts))
    data = described(tree, options, images, ("age", "identity", "born", "taken"), "age")
    return noted(data, "ages are years taken - born")


def _fairface(tree: Tree) -> list[str]:
    return [text for text in tree.texts if {"file", "age", "gender", "race"} <= set(header_of(tree, text))]


def _is_fairface(tree: Tree) -> str | None:
    texts = _fairface(tree)
    return f"{texts[0]} has the columns file, age, gender, race" if texts else None


def _read_fairface(tree: Tree, options: Options) -> Dataset:
    texts, images = _fairface(tree), []
    for text in texts:
        rows = rows_of(tree, text)
        header = [value.casefold() for value in rows[0]]
        for values in rows[1:]:
            if len(values) != len(header):
                raise DataError(f"{tree.where}: {text}: expected {len(header)} values a row, got {values}")
            facts = dict(zip(header, values, strict=True))
            images.append((facts.pop("file"), facts | {"split": _part(text) if len(texts) > 1 else ""}))
    return described(tree, options, images, ("age", "gender", "race"), "age")


def _is_vggface2(tree: Tree) -> str | None:
    text = text_called(tree, r"identity_meta\.csv|(train|test)_list\.txt")
    people = [folder for folder in tree.folders if re.fullmatch(r"(?:.*/)?n\d{6}", folder)]
    alone = len(people) == len({folder_of(path) for path in tree.files})
    return f"folders as {people[0]}" if people and (text or alone) else None


def _read_vggface2(tree: Tree, options: Options) -> Dataset:
    meta = text_called(tree, r"identity_meta\.csv")
    rows = rows_of(tree, meta) if meta else []
    names = {row[0]: row[1].strip('" ') for row in rows[1:] if len(row) > 1}
    images = []
    for path in tree.files:
        person = path.split("/")[-2] if "/" in path else ""
        images.append((path, {"identity": names.get(person, person)}))
    note = "the folders train and test have other people each; for telling these people apart they are not used"
    parts = {path.split("/")[-3] for path in tree.files if path.count("/") > 1}
    return noted(described(tree, options, images, ("identity",), "identity"), note if len(parts) > 1 else "")


def _is_casia(tree: Tree) -> str | None:
    people = {folder_of(path) for path in tree.files}
    fits = bool(people) and all(re.fullmatch(r"(?:.*/)?\d{7}", folder) for folder in people)
    return "people in folders of seven digits" if fits else None


def _is_lfw(tree: Tree) -> str | None:
    fits = all(re.fullmatch(r"(?:.*/)?([^/]+)/\1_\d{4}\.\w+", path) for path in tree.files)
    return "images called Name/Name_0001.jpg" if tree.files and fits else None


def _read_people(tree: Tree, options: Options) -> Dataset:
    """A folder per person; lists beside them are left alone."""
    images = [(path, {"identity": folder_of(path).rpartition("/")[2]}) for path in tree.files]
    return described(tree, options, images, ("identity",), "identity")


FACE_LAYOUTS: tuple[Layout, ...] = (
    Layout("ferplus", _is_ferplus, _read_ferplus),
    Layout("fer2013", _is_fer, _read_fer),
    Layout("raf-db", _is_raf, _read_raf),
    Layout("affectnet", _is_affectnet, _read_affectnet),
    Layout("celeba", _is_celeba, _read_celeba),
    Layout("fairface", _is_fairface, _read_fairface),
    Layout("utkface", partial(_mostly, pattern=_UTK), _read_utkface),
    Layout("agedb", partial(_mostly, pattern=_AGEDB), _read_agedb),
    Layout("imdb-wiki", partial(_mostly, pattern=_IMDB), _read_imdb),
    Layout("vggface2", _is_vggface2, _read_vggface2),
    Layout("casia-webface", _is_casia, _read_people),
    Layout("lfw", _is_lfw, _read_people),
)
