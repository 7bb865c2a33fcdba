"""`embed` on a Ray cluster of two nodes: the file of one machine, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from facewright.errors import UsageError
from facewright.events import Event, Progress
from facewright.workflows import embed, embeddings
from fixtures.faces import draw_people, saved

pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=4, photos=6)


@pytest.fixture
def two_nodes() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def workers() -> list[int]:
    """Processes of embedding workers that descend from this one."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid, command = int(folder.name), (folder / "cmdline").read_bytes()
            parents[pid] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if command.startswith(b"ray::EmbeddingWorker"):
            named.append(pid)

    def ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in named if ours(pid)]


@pytest.mark.slow
def test_two_nodes_write_the_file_of_one_machine_although_a_worker_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_nodes: None
) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 3)  # eight parts
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if isinstance(event, Progress) and not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    model = saved(tmp_path)
    there = embed(model, photos, tmp_path / "there.parquet", on="ray", on_event=kill_one)
    assert killed and len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
    here = embed(model, photos, tmp_path / "here.parquet")
    assert (there.rows, there.resumed) == (here.rows, 0) == (24, 0)
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_another_address_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ray://HOST:PORT"):
        embed(saved(tmp_path), photos, tmp_path / "v.parquet", on="spark")
