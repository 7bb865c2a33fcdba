"""A table of records is the records it was made of."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from facewright.data import image_records
from facewright.data.image_records import MemorySource, Record, RecordTable
from facewright.data.records import Broken, Dataset, Labelled
from facewright.errors import DataError

RECORDS = (
    Record("ann/01.jpg", 0, "ann", "train", ("3", "")),
    Record("ann/\udcff.jpg", 0, None, None, ("", "x")),  # a name that is no UTF-8
    Record("bob/ü.jpg", 1, "bob", "test", ("3", "x")),
    Record("none", None, None, "train", ("", "")),
)


def test_it_gives_back_what_it_was_made_of() -> None:
    table = RecordTable.of(iter(RECORDS))
    assert len(table) == 4 and table == RECORDS and list(table) == list(RECORDS)
    assert (table[-1], table[1:3], table[::-2]) == (RECORDS[-1], RECORDS[1:3], RECORDS[::-2])
    assert table.labels.tolist() == [0, 0, 1, -1]
    assert table != RECORDS[:3] and table != RECORDS[::-1] and table != 4
    assert copy.deepcopy(table) == RECORDS
    for index in (4, -5):
        with pytest.raises(IndexError):
            table[index]


def test_more_than_one_block() -> None:
    many = [Record(f"{number:06d}", number % 7, str(number % 3)) for number in range(10_000)]
    assert RecordTable.of(many) == many
    assert RecordTable.of([]) == ()


def rows(count: int) -> list[Labelled]:
    return [Labelled(f"{number:03d}", f"c{number % 3}", f"p{number % 5}", "train", ("1",)) for number in range(count)]


def test_a_large_data_set_behaves_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource((np.zeros((2, 2, 3), np.uint8),) * 12)
    small = Dataset.of("x", "x", rows(12), source, columns=("k",))
    monkeypatch.setattr(image_records, "LAZY", 5)
    large = Dataset.of("x", "x", rows(12), source, columns=("k",))
    assert isinstance(large.records, RecordTable) and isinstance(small.records, tuple)
    digests = [str(number) for number in range(12)]
    for both in (
        (large.records, small.records),
        (large.counts(), small.counts()),
        (large.people, small.people),
        (large.column("k"), small.column("k")),
        (large.fingerprint(digests), small.fingerprint(digests)),
        (large.subset([7, 2, 3]).records, small.subset([7, 2, 3]).records),
        (large.without([Broken("003", "gone")]).records, small.without([Broken("003", "gone")]).records),
        (large.with_classes_first(["c2"]).records, small.with_classes_first(["c2"]).records),
    ):
        assert both[0] == both[1]
    assert np.array_equal(large.labels, small.labels) and large.labels.dtype == np.int64
    with pytest.raises(DataError, match="003 is listed twice"):
        Dataset.of("x", "x", [*rows(12), *rows(4)[3:]], source, columns=("k",))


def test_a_record_takes_few_bytes() -> None:
    table = RecordTable.of(Record(f"person_{n // 20:06d}/{n % 20:03d}.jpg", n // 20) for n in range(5000))
    assert table.nbytes / len(table) < 60
