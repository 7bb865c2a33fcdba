"""Splits: equal pixels never part, shares hold, and nothing depends on the order of the input."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from facewright.data.audit import about_given_parts, explained
from facewright.data.records import Dataset, Record
from facewright.data.splits import PARTS, Split, by_identity, given, groups_of, k_fold, stratified
from facewright.errors import DataError, UsageError

few = settings(max_examples=60, deadline=None)
shares = st.sampled_from([(0.1, 0.2), (0.0, 0.2), (0.1, 0.0), (0.25, 0.25), (0.45, 0.45)])


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, list[str]]:
    """Labels and digests; some digests repeat, also across classes."""
    count = draw(st.integers(1, 80))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    digests = draw(st.lists(st.integers(0, 60).map("{:03d}".format), min_size=count, max_size=count))
    return np.array(labels, np.int64), digests


def part_of(split: Split, count: int) -> list[str]:
    parts = [""] * count
    for name in PARTS:
        for index in getattr(split, name).tolist():
            assert parts[index] == ""
            parts[index] = name
    return parts


def dataset(labels: list[int], splits: list[str | None] | None = None) -> Dataset:
    records = tuple(
        Record(f"p{i:03d}.png", label, split=None if splits is None else splits[i]) for i, label in enumerate(labels)
    )
    classes = ("ann", "bob", "cid")[: max(labels) + 1]
    return Dataset("d", "somewhere", classes, records, source=None)  # type: ignore[arg-type]


# stratified


def reference(labels: np.ndarray, groups: list[str], seed: int, validation: float, test: float) -> list[str]:
    """The rule word by word, one record at a time, without the repair of small classes."""
    parts = [""] * len(labels)
    for label in set(labels.tolist()):
        mine = [g for g in dict.fromkeys(groups) if labels[groups.index(g)] == label]
        mine.sort(key=lambda g: blake2b(f"{seed}:{g}".encode(), digest_size=8).hexdigest())
        n = sum(groups.count(g) for g in mine)
        k = 0
        for g in mine:
            if k < round(test * n):
                part = "test"
            elif k < round(test * n) + round(validation * n):
                part = "validation"
            else:
                part = "train"
            for index in [i for i, other in enumerate(groups) if other == g]:
                parts[index] = part
                k += 1
    return parts


@few
@cases(st.integers(30, 90), st.integers(0, 5), st.integers(0, 1000))
def test_stratified_is_the_published_rule(count, repeats, seed):
    rng = np.random.default_rng(count)
    groups = [f"{i:04x}" for i in rng.integers(0, 2**16, count)]
    groups += groups[:repeats]
    labels = np.zeros(len(groups), np.int64)  # one big class: no repair is due
    found = part_of(stratified(labels, groups, seed), len(groups))
    assert found == reference(labels, groups, seed, 0.1, 0.2)


@few
@cases(labelled(), st.integers(0, 9), shares)
def test_every_record_is_in_one_part_and_equal_pixels_never_part(data, seed, share):
    labels, groups = data
    parts = part_of(stratified(labels, groups, seed, *share), len(labels))
    assert "" not in parts
    assert all(len({part for part, g in zip(parts, groups, strict=True) if g == group}) == 1 for group in set(groups))


@few
@cases(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 9), shares)
def test_each_class_keeps_its_shares_within_one_unit(sizes, seed, share):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = [f"{i}" for i in range(len(labels))]
    parts = np.array(part_of(stratified(labels, groups, seed, *share), len(labels)))
    for label, n in enumerate(sizes):
        counts = Counter(parts[labels == label].tolist())
        for name, wanted in (("validation", share[0]), ("test", share[1])):
            assert abs(counts[name] - wanted * n) <= 1
            assert counts[name] >= 1 or wanted == 0 or n < 3
        assert counts["train"] >= 1 or n < 3


@few
@cases(labelled(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_order_of_the_input_does_not_change_an_images_part(data, seed, random):
    labels, groups = data
    labels = np.array([int(group) % 4 for group in groups])  # a group has one class
    order = list(range(len(labels)))
    random.shuffle(order)
    before = part_of(stratified(labels, groups, seed), len(labels))
    after = part_of(stratified(labels[order], [groups[i] for i in order], seed), len(labels))
    assert after == [before[i] for i in order]


def test_seed_changes_the_split():
    labels, groups = np.zeros(50, np.int64), [f"{i}" for i in range(50)]
    tests = {tuple(stratified(labels, groups, seed).test.tolist()) for seed in range(20)}
    assert len(tests) == 20


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 1, 1], (1, 1, 1)),  # three images: one each, though round(0.1 · 3) is 0
        ([1, 1], (2, 0, 0)),  # two: round(0.2 · 2) is 0, everything trains
        ([1] * 4, (2, 1, 1)),
        ([30, 1, 1], None),  # one image thirty times: whatever the order, no part is empty
    ],
)
def test_small_classes(sizes, expected):
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    for seed in range(10):
        split = stratified(np.zeros(len(groups), np.int64), groups, seed)
        lengths = len(split.train), len(split.validation), len(split.test)
        assert lengths == expected if expected else min(lengths) >= 1


# Sizes of the units of each class → which classes are trained, and which are tested.
COPIES = {
    "three copies of one photo": ([[3], [1] * 20, [1] * 20], "abc", "bc"),
    "a film of 40 frames": ([[40], [1] * 10, [1] * 10], "abc", "bc"),
    "a burst and a few photos": ([[30, 1, 1, 1], [1] * 10], "ab", "ab"),
    "offline augmentation, five of each": ([[5] * 10, [5] * 10], "ab", "ab"),
    "two films": ([[20, 20], [1] * 20, [1] * 20], "abc", "bc"),
    "a pair": ([[2], [1] * 9, [1] * 9], "abc", "bc"),
    "a film and one photo": ([[40, 1], [1] * 10], "ab", "ab"),
}


@pytest.mark.parametrize("case", COPIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_class_made_of_copies_is_trained_and_that_is_said(case, seed):
    sizes, trained, tested = COPIES[case]
    labels = [label for label, units in enumerate(sizes) for size in units for _ in range(size)]
    groups = [f"{label}.{u}" for label, units in enumerate(sizes) for u, size in enumerate(units) for _ in range(size)]
    data = dataset(labels)
    split = explained(stratified(data.labels, groups, seed), data, groups, 0.2)
    names = ["ann", "bob", "cid"][: len(sizes)]
    assert {data.classes[k][0] for k in data.labels[split.train]} == set(trained)
    assert {data.classes[k][0] for k in data.labels[split.test]} == set(tested)
    said = " ".join(split.notes)
    for name in names:
        assert (name in said) or name[0] in tested


def test_without_an_honest_test_the_classes_are_named():
    data = dataset([0] * 40 + [1] * 9)
    groups = ["film"] * 40 + [f"{k}" for k in range(9)]
    with pytest.raises(DataError, match="ann"):
        explained(stratified(data.labels, groups, 0), data, groups, 0.2)


def test_classes_that_are_absent_from_a_part_are_named_with_what_that_means():
    data = dataset([0, 0, 1, 1, 2, 2], ["train", "validation", "train", "test", "test", "test"])
    groups = list("abcdef")
    notes = " | ".join(explained(given(data, groups, 0), data, groups, 0.2).notes)
    assert "(cid)" in notes and " 2 test images" in notes  # cid is never trained
    assert "(ann)" in notes and "3 images" in notes  # the test part lacks ann
    assert "(bob, cid)" in notes  # the validation part lacks two
    assert " | ".join(about_given_parts(data)) in notes
    assert about_given_parts(dataset([0, 1, 2])) == []


def test_sixty_classes_and_thirteen_test_images_are_said():
    records = tuple(Record(f"{k:03d}.png", k % 60, split="test" if k < 13 else "train") for k in range(133))
    data = Dataset("d", "x", tuple(f"p{k:02d}" for k in range(60)), records, source=None)  # type: ignore[arg-type]
    note = next(note for note in about_given_parts(data) if "test" in note)
    assert "47 of 60" in note and "13 images" in note and "42 more" in note


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.1, 1.0), (float("nan"), 0.1)])
def test_shares_out_of_range(validation, test):
    with pytest.raises(UsageError, match="together below 1"):
        stratified(np.zeros(3, np.int64), ["a", "b", "c"], 0, validation, test)


def test_lengths_that_differ():
    with pytest.raises(UsageError, match="3 records, got 2"):
        stratified(np.zeros(3, np.int64), ["a", "b"], 0)


# groups_of


@few
@cases(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.data())
def test_groups_are_the_connected_sets(digests, data):
    index = st.integers(0, len(digests) - 1)
    near = data.draw(st.lists(st.tuples(index, index), max_size=10))
    reach = [{i} | {j for j, other in enumerate(digests) if other == digest} for i, digest in enumerate(digests)]
    for _ in digests:  # the transitive closure, slowly
        for first, second in near:
            joined = reach[first] | reach[second]
            for i in joined:
                reach[i] = reach[i] | joined
    groups = groups_of(digests, near)
    for i, members in enumerate(reach):
        assert {j for j, group in enumerate(groups) if group == groups[i]} == members
        assert groups[i] == min(digests[j] for j in members)  # a name that does not depend on the order


# by_identity


@few
@cases(st.lists(st.integers(1, 20), min_size=3, max_size=25), st.integers(0, 9))
def test_nobody_is_in_two_parts_and_parts_are_balanced(sizes, seed):
    who = [f"p{k}" for k, size in enumerate(sizes) for _ in range(size)]
    parts = part_of(by_identity(who, [f"{i}" for i in range(len(who))], seed), len(who))
    assert "" not in parts and set(parts) == set(PARTS)
    home = {person: {part for part, other in zip(parts, who, strict=True) if other == person} for person in who}
    assert all(len(found) == 1 for found in home.values())
    wanted, filled = round(0.2 * len(who)), parts.count("test")
    trained = [k for k in range(len(sizes)) if home[f"p{k}"] == {"train"}]
    if len(trained) > 1:  # nobody left in train would bring test nearer to its share
        assert all(abs(filled + sizes[k] - wanted) >= abs(filled - wanted) for k in trained)


def test_by_identity_depends_on_the_seed_and_keeps_shared_images_together():
    who = [f"p{k}" for k in range(20) for _ in range(5)]
    groups = [f"{i}" for i in range(100)]
    groups[7] = groups[93]  # one image under two names
    seen = set()
    for seed in range(10):
        split = by_identity(who, groups, seed)
        parts = part_of(split, 100)
        assert parts[7] == parts[93]
        seen.add(tuple(split.test.tolist()))
        assert (len(split.validation), len(split.test)) == (10, 20)
    assert len(seen) > 5


def test_by_identity_needs_people():
    with pytest.raises(UsageError, match="found 2"):
        by_identity(["a", "a", "b"], ["1", "2", "3"], 0)


# k_fold


@few
@cases(labelled(), st.integers(2, 6), st.integers(0, 9))
def test_folds_test_every_record_once_and_keep_groups_whole(data, folds, seed):
    labels, groups = data
    splits = k_fold(labels, groups, seed, folds)
    assert sorted(i for split in splits for i in split.test.tolist()) == list(range(len(labels)))
    for split in splits:
        parts = part_of(split, len(labels))
        assert "" not in parts
        assert all(len({p for p, g in zip(parts, groups, strict=True) if g == group}) == 1 for group in set(groups))


def test_folds_are_stratified_and_even():
    labels = np.repeat([0, 1, 2], [23, 50, 31])
    for split in k_fold(labels, [f"{i}" for i in range(104)], seed=1, folds=5):
        assert [abs(int((labels[split.test] == k).sum()) - n / 5) < 1 for k, n in enumerate([23, 50, 31])] == [True] * 3
        assert len(split.validation) in range(7, 13)
    with pytest.raises(UsageError, match="two folds"):
        k_fold(labels, [f"{i}" for i in range(104)], seed=1, folds=1)


# given


def test_given_parts_are_honoured():
    names = ["train", "test", "validation", "train"]
    split = given(dataset([0, 0, 1, 1], names), list("abcd"), seed=0)
    assert part_of(split, 4) == names and split.notes == ()


def test_missing_validation_is_carved_from_train_and_said():
    names = ["test"] * 5 + ["train"] * 40
    split = given(dataset([0, 1, 0, 1, 0] + [0, 1] * 20, names), [f"{i}" for i in range(45)], seed=0)
    assert split.test.tolist() == list(range(5))
    assert len(split.validation) == 4 and len(split.train) == 36
    assert split.notes == ("the data has no validation part: 4 images were carved from train",)


def test_copies_of_test_images_are_not_trained_on():
    names = ["train", "train", "validation", "validation", "test", "train"]
    split = given(dataset([0] * 6, names), ["t", "v", "v", "t", "t", "x"], seed=0)
    assert part_of(split, 6) == ["", "", "validation", "", "test", "train"]
    assert [note.split(" is")[0] for note in split.notes] == [
        "1 train image", "1 validation image", "1 train image",
    ]  # fmt: skip


def test_given_needs_a_part_for_each_record():
    with pytest.raises(DataError, match=r"p001\.png belongs to no given part"):
        given(dataset([0, 0], ["train", None]), ["a", "b"], seed=0)
    with pytest.raises(DataError, match="nothing is left to train on"):
        given(dataset([0, 0], ["test", "validation"]), ["a", "b"], seed=0)


# split.csv


def test_save_and_load(tmp_path: Path):
    data, digests = dataset([0, 1, 2, 0, 1, 2]), list("aabbcd")
    split = Split(np.array([0, 2]), np.array([1]), np.array([3, 4]))  # record 5 is in no part
    split.save(tmp_path / "split.csv", data, digests)
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines[:3] == ["path,label,part,group", "p000.png,ann,train,a", "p001.png,bob,validation,a"]
    assert lines[6] == "p005.png,cid,,d"
    again = Split.load(tmp_path / "split.csv", data, digests)
    assert part_of(again, 6) == part_of(split, 6)


@pytest.mark.parametrize(
    ("labels", "digests", "said"),
    [
        ([0, 1], "ab", "'p002.png' is in the split file, not in the data"),
        ([0, 1, 2, 2], "abcd", "'p003.png' is in the data, not in the split file"),
        ([0, 2, 1], "abc", "'p001.png': label is 'bob' in the split file"),  # the first of two that differ
        ([0, 1, 2], "axc", "'p001.png': image has changed"),
    ],
)
def test_load_refuses_other_records_and_names_the_first(tmp_path: Path, labels, digests, said):
    file = tmp_path / "split.csv"
    Split(np.array([0]), np.array([1]), np.array([2])).save(file, dataset([0, 1, 2]), list("abc"))
    with pytest.raises(DataError, match=said):
        Split.load(file, dataset(labels), list(digests))


@pytest.mark.parametrize(
    "content", [None, b"", b"path,label\n", b"\xff\xfe", b"path,label,part,group\np000.png,ann,dev,a\n"]
)
def test_load_refuses_what_is_no_split_file(tmp_path: Path, content):
    file = tmp_path / "split.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"split\.csv"):
        Split.load(file, dataset([0]), ["a"])


def test_save_refuses_a_split_of_other_records(tmp_path: Path):
    with pytest.raises(DataError, match="counts record 3"):
        Split(np.array([0]), np.array([1]), np.array([3])).save(tmp_path / "s.csv", dataset([0, 1]), ["a", "b"])
