"""The one thread behind the server: order, batches, errors, cancelled jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facewright.serve.engine import CALL, Call, Engine, Kind
from facewright.serve.service import QueuedRecognizer

LONG = 600  # s: only a broken engine takes this


class Work:
    """Doubles numbers; waits until it is let go; fails on negative ones."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.entered.release()
        self.gate.wait()
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
    assert [job.result(LONG) for job in jobs] == [0, 2, 4, 6, 8, 10]
    assert sorted(number for batch in work.batches for number in batch) == list(range(6))
    assert max(map(len, work.batches)) == 3 and len(work.batches) <= 3


def test_kinds_are_not_mixed_and_the_oldest_comes_first(engine: Engine, work: Work) -> None:
    jobs = [engine.submit(kind, n) for n, kind in enumerate(["single", "double", "single", "double", "single"])]
    work.gate.set()
    assert [job.result(LONG) for job in jobs] == [0, 2, 4, 6, 8]
    assert work.batches == [[0], [1, 3], [2], [4]]


def test_one_that_fails_spoils_no_other(engine: Engine, work: Work) -> None:
    first = engine.submit("single", 7)
    jobs = [engine.submit("double", number) for number in (1, -1, 2)]
    work.gate.set()
    assert first.result(LONG) == 14
    assert jobs[0].result(LONG) == 2 and jobs[2].result(LONG) == 4
    with pytest.raises(ValueError, match="-1"):
        jobs[1].result(LONG)


def test_a_cancelled_job_is_never_begun(engine: Engine, work: Work) -> None:
    first, second, third = (engine.submit("single", number) for number in (1, 2, 3))
    assert second.cancel()
    work.gate.set()
    assert first.result(LONG) == 2 and third.result(LONG) == 6
    assert [2] not in work.batches


def test_closing_finishes_the_current_batch_and_cancels_the_rest(work: Work) -> None:
    batches: list[tuple[str, int]] = []
    engine = Engine({"single": Kind(work)}, lambda kind, size: batches.append((kind, size)))
    jobs = [engine.submit("single", number) for number in range(4)]
    assert work.entered.acquire(timeout=LONG)
    closing = threading.Thread(target=engine.close)
    closing.start()
    for job in jobs[1:]:
        with pytest.raises(CancelledError):
            job.result(LONG)
    work.gate.set()
    closing.join()
    assert jobs[0].result(LONG) == 0 and batches == [("single", 1)]
    with pytest.raises(CancelledError):
        engine.submit("single", 1)


def test_a_long_request_has_one_batch_in_the_queue_and_ends_when_it_is_cancelled(engine: Engine, work: Work) -> None:
    call = Call()
    ended: list[BaseException] = []

    def long_request() -> None:
        CALL.set(call)
        try:
            engine.do("double", range(1_000))
        except CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=long_request)
    thread.start()
    assert work.entered.acquire(timeout=LONG)
    assert engine.waiting <= 3
    call.cancel()
    work.gate.set()
    thread.join()
    assert len(ended) == 1 and len(work.batches) <= 2
    assert engine.submit("single", 4).result(LONG) == 8
    with pytest.raises(CancelledError):
        copy_context().run(lambda: (CALL.set(call), engine.do("single", [1])))


def test_an_unknown_kind_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(KeyError):
        engine.submit("halve", 1)


def test_a_gallery_embeds_in_the_thread_of_the_engine() -> None:
    """Enrolling and identifying ask for vectors with their quality."""
    seen: list[tuple[str, int]] = []

    class Networks:
        width = 2
        typical_norm: object = None

        def qualities(self, faces: Sequence[Any]) -> list[str]:
            return ["good"] * len(faces)

        def embed_with_quality(self, faces: Sequence[Any]) -> tuple[Any, list[str]]:
            seen.append((threading.current_thread().name, len(faces)))
            return np.ones((len(faces), 2)), self.qualities(faces)

        def embed_crops(self, crops: Sequence[Any]) -> Any:
            return self.embed_with_quality(crops)[0]

    networks: Any = Networks()
    kinds = {"embed": Kind(networks.embed_crops, 8), "call": Kind(lambda calls: [call() for call in calls])}
    running = Engine(kinds)
    face: Any = SimpleNamespace(chip=np.zeros((4, 4, 3), np.uint8))
    for norm in (None, 1.0):
        networks.typical_norm = norm
        vectors, qualities = QueuedRecognizer(networks, running).embed_with_quality([face, face])
        assert vectors.shape == (2, 2) and qualities == ["good", "good"]
    running.close()
    assert {name for name, _ in seen} == {"facewright-engine"} and sum(count for _, count in seen) == 4
