"""`embed` and `faces` on a Ray cluster of two nodes: the file of one machine, also when a worker is killed."""

from __future__ import annotations

import functools
import http.server
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facewright import embed
from facewright.errors import FacewrightError, UsageError
from facewright.events import Event, Progress
from facewright.workflows import embeddings, face_detection, part_tables
from facewright.workflows.face_detection import write_faces
from fixtures.faces import draw_people, saved

pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=4, photos=6)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of the cluster's client server; this process is connected to its head."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def workers() -> list[int]:
    """Processes of workers that descend from this one."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid, command = int(folder.name), (folder / "cmdline").read_bytes()
            parents[pid] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if command.startswith(b"ray::PartWorker"):
            named.append(pid)

    def ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in named if ours(pid)]


def killer() -> tuple[list[int], Callable[[Event], None]]:
    """Who was killed; and what kills a worker when the first part arrives."""
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if isinstance(event, Progress) and event.done and not killed:  # the first event says that it begins
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    return killed, kill_one


@pytest.mark.slow
def test_two_nodes_write_the_vectors_of_one_machine_although_a_worker_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_nodes: str
) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 3)  # eight parts
    killed, kill_one = killer()
    model = saved(tmp_path)
    there = embed(model, photos, tmp_path / "there.parquet", on="ray", on_event=kill_one)
    assert killed and len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
    here = embed(model, photos, tmp_path / "here.parquet")
    assert (there.rows, there.resumed) == (here.rows, 0) == (24, 0)
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.slow
def test_two_nodes_write_the_faces_of_one_machine_although_a_worker_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_nodes: str
) -> None:
    monkeypatch.setattr(face_detection, "PHOTOS", 3)
    killed, kill_one = killer()
    (tmp_path / "there").mkdir()
    there = write_faces(photos, tmp_path / "there", detector="none", template="arcface", on="ray", on_event=kill_one)
    assert killed and (there.photos, there.faces, there.resumed) == (24, 24, 0)
    write_faces(photos, tmp_path / "here.parquet", detector="none", template="arcface")
    assert (tmp_path / "there/faces.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert len(list((tmp_path / "there").rglob("*.png"))) == 24


@pytest.mark.slow
def test_two_nodes_read_an_address_themselves(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_nodes: str
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(embeddings, "ROWS", 3)
    read: list[str] = []

    class Counting(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            read.extend([self.path] * (self.command == "GET" and self.path.endswith(".png")))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counting, directory=str(photos)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    model, address = saved(tmp_path), f"http://127.0.0.1:{server.server_port}"
    there = embed(model, address, tmp_path / "there.parquet", on="ray")
    assert (there.rows, there.resumed) == (24, 0) and len(set(read)) == 24
    embed(model, address, tmp_path / "here.parquet")
    server.shutdown()
    server.server_close()
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.parametrize("address", ["spark", "ray://", "ray://here", "ray://here:port", "ray:8000"])
def test_another_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="ray://HOST:PORT"):
        embed("no model", tmp_path, tmp_path / "v.parquet", on=address)


@pytest.mark.parametrize("on", ["ray", "ray://127.0.0.1:{}"])
def test_where_no_cluster_answers_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str) -> None:
    monkeypatch.setattr(part_tables, "CONNECTION_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(FacewrightError, match="no Ray cluster answered"):
            embed("no model", tmp_path, tmp_path / "v.parquet", on=on.format(port))
