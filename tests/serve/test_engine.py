"""The one thread behind the server: order, batches, errors, cancelled jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from facewright.serve.engine import Engine, Kind


class Work:
    """Doubles numbers; waits until it is let go; fails on negative ones."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        self.batches.append(list(numbers))
        if min(numbers) < 0:
            raise ValueError(f"negative: {min(numbers)}")
        return [2 * number for number in numbers]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def engine(work: Work) -> Iterator[Engine]:
    made = Engine({"double": Kind(work, most=3), "single": Kind(work)})
    yield made
    work.gate.set()
    made.close()


def test_what_gathers_meanwhile_is_one_batch(engine: Engine, work: Work) -> None:
    jobs = [engine.submit("double", number) for number in range(6)]  # the first is begun alone
    work.gate.set()
    assert [job.result(10) for job in jobs] == [0, 2, 4, 6, 8, 10]
    assert sorted(number for batch in work.batches for number in batch) == list(range(6))
    assert max(map(len, work.batches)) == 3 and len(work.batches) <= 3


def test_kinds_are_not_mixed_and_the_oldest_comes_first(engine: Engine, work: Work) -> None:
    jobs = [engine.submit(kind, n) for n, kind in enumerate(["single", "double", "single", "double", "single"])]
    work.gate.set()
    assert [job.result(10) for job in jobs] == [0, 2, 4, 6, 8]
    assert work.batches == [[0], [1, 3], [2], [4]]


def test_one_that_fails_spoils_no_other(engine: Engine, work: Work) -> None:
    first = engine.submit("single", 7)
    jobs = [engine.submit("double", number) for number in (1, -1, 2)]
    work.gate.set()
    assert first.result(10) == 14
    assert jobs[0].result(10) == 2 and jobs[2].result(10) == 4
    with pytest.raises(ValueError, match="negative"):
        jobs[1].result(10)


def test_a_cancelled_job_is_never_begun(engine: Engine, work: Work) -> None:
    first, second, third = (engine.submit("single", number) for number in (1, 2, 3))
    assert second.cancel()
    work.gate.set()
    assert first.result(10) == 2 and third.result(10) == 6
    assert [2] not in work.batches


def test_it_tells_of_batches_finishes_what_waits_and_then_takes_nothing(work: Work) -> None:
    told: list[tuple[str, int]] = []
    engine = Engine({"double": Kind(work, most=3)}, lambda kind, size: told.append((kind, size)))
    jobs = [engine.submit("double", number) for number in range(4)]
    work.gate.set()
    engine.close()
    assert [job.result(0) for job in jobs] == [0, 2, 4, 6]
    assert sum(size for _, size in told) == 4 and {kind for kind, _ in told} == {"double"}
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit("double", 1)


def test_an_unknown_kind_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(KeyError):
        engine.submit("halve", 1)
