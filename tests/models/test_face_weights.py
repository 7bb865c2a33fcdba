"""Public face recognizers and detectors: whole rows with sources, pinned downloads, licences that are accepted once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facewright.cli import progress
from facewright.cli.main import main
from facewright.embedding import Embedder
from facewright.errors import BundleError, FacewrightError, UsageError, WeightsError
from facewright.events import Progress, download_handler, ignore_event, licence_question
from facewright.faces.detectors import detector_of
from facewright.models import downloads, face_weights
from facewright.models.downloads import Remote, pinned
from facewright.models.face_weights import FACE_WEIGHTS, accept, accepted, file_of
from facewright.models.released import RELEASED, Weights, cached_file
from facewright.recognition import Recognizer
from facewright.recognition.networks import read_defaults, set_default
from facewright.workflows.model_import import import_model
from fixtures.plain_recognizer import recognizer

BODY = recognizer(side=112).SerializeToString()
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Server(BaseHTTPRequestHandler):
    """A file at any address; the first `cut` answers end in the middle."""

    body = BODY
    cut = 0
    asked: list[str | None]

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        rest = kind.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(kind.body) - 1}/{len(kind.body)}")
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", '"v1"')
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if kind.cut > 0 else rest)
        kind.cut -= 1

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """A server with the file of the row sface, whose checksum the row pins."""
    handler = type("Bound", (Server,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/file.onnx"
    rows = [replace(row, source=address, sha256=SHA256, bytes=len(BODY)) for row in FACE_WEIGHTS if row.of is None]
    monkeypatch.setattr(face_weights, "FACE_WEIGHTS", tuple(rows))
    true_remote = downloads.Remote
    monkeypatch.setattr(face_weights, "Remote", lambda *args: true_remote(*args, frozenset({"127.0.0.1"})))
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def row_of(name: str) -> Weights:
    row = face_weights.face_weights(name)
    assert row is not None
    return row


@pytest.mark.parametrize("row", [pytest.param(row, id=row.title) for row in (*FACE_WEIGHTS, *RELEASED)])
def test_every_claim_of_a_row_has_its_source(row: Weights) -> None:
    for source in (row.licence_source, row.data_source, row.published_source):
        assert all(re.match("https://", address) for address in source.split()) and source
    assert row.licence and row.data and row.published
    assert row.sha256 and row.sha256_source
    assert row.asks == ("non-commercial" in row.licence or "CC BY-NC" in row.licence or "MSU" in row.licence)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.title) for row in FACE_WEIGHTS])
def test_a_face_network_is_pinned_by_a_whole_checksum_at_an_address(row: Weights) -> None:
    assert re.fullmatch("[0-9a-f]{64}", row.sha256)
    assert re.match("https://", row.sha256_source) or row.of is not None  # that of an architecture's weights
    assert (row.spec is None, row.template is None) == (row.kind == "detector",) * 2
    assert re.fullmatch("[a-z0-9_.]+", row.name)


def test_names_and_files_are_unique() -> None:
    assert len({row.name for row in FACE_WEIGHTS}) == len({row.source for row in FACE_WEIGHTS}) == len(FACE_WEIGHTS)


def test_a_recognizer_is_fetched_at_its_first_use_and_embeds_as_its_row_says(site: type[Server], cache: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    weight = np.random.default_rng(0).normal(size=(3 * 112 * 112, 6)).astype(np.float32)
    seen: list[object] = []
    told = download_handler.set(seen.append)
    for name, fed in (("sface", photo.astype(float)), ("auraface", (photo - 127.5) / 127.5)):
        vector = fed.reshape(-1) @ weight
        made = Embedder.load(name)
        np.testing.assert_allclose(made.embed(photo[None])[0], vector / np.linalg.norm(vector), atol=1e-4)
        assert made.bundle.template is not None and made.bundle.template.name == "arcface"
    download_handler.reset(told)
    assert len(site.asked) == 2 and seen[-1] == Progress("downloading auraface, kB", *[len(BODY) // 1000] * 2)
    again = Recognizer.load("sface")
    assert again.detector == "dlib" and again.licence == "Apache-2.0" and len(site.asked) == 2
    assert sorted(path.name for path in (cache / "weights").glob("sface*")) == [
        "sface.model.onnx", "sface.onnx", "sface.onnx.sha256"
    ]  # fmt: skip


def test_a_cut_download_goes_on_and_a_wrong_checksum_leaves_nothing(site: type[Server], cache: Path) -> None:
    site.cut = 1
    with pytest.raises(WeightsError, match="goes on from there"):
        file_of(row_of("sface"))
    assert file_of(row_of("sface")).read_bytes() == BODY
    assert site.asked == [None, f"bytes={len(BODY) // 2}-"]
    site.body = BODY[:-1] + b"x"
    with pytest.raises(WeightsError, match="wrong checksum"):
        file_of(row_of("yunet"))
    assert not list((cache / "weights").glob("yunet.onnx*"))


def test_a_full_disk_is_one_clear_error(site: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "fsync", full)
    with pytest.raises(FacewrightError, match="No space left"):
        file_of(row_of("sface"))
    assert not cached_file(row_of("sface")).exists()


def test_offline_names_address_and_place(cache: Path) -> None:
    row = replace(row_of("sface"), source="https://127.0.0.1:9/x.onnx")
    with pytest.raises(WeightsError) as caught:
        file_of(row)
    assert row.source in str(caught.value) and str(cache / "weights" / "sface.onnx") in str(caught.value)


@pytest.mark.parametrize("nothing", ["", "abc", "g" * 64, "A" * 64])
def test_a_checksum_that_any_file_meets_is_refused(nothing: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256"):
        Remote("https://example.org/x", nothing)
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(WeightsError, match="SHA-256"):
        pinned(tmp_path / "x", nothing)


def test_a_non_commercial_licence_is_accepted_once(
    site: type[Server], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WeightsError, match="--accept-licence w600k_mbf"):
        Embedder.load("w600k_mbf")
    assert site.asked == []
    assert main(["weights", "get", "w600k_mbf", "--accept-licence", "w600k_r50"]) == 1
    assert main(["weights", "get", "w600k_mbf", "--accept-licence", "w600k_mbf", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == SHA256
    assert Embedder.load("w600k_mbf").width == 6
    assert accepted()["w600k_mbf"].licence == "non-commercial research only"
    with pytest.raises(WeightsError, match="--accept-licence"):
        file_of(row_of("w600k_r50"))
    (cache / "licences.json").write_text('{"w600k_r50": 1}')
    with pytest.raises(WeightsError, match=r"licences\.json"):
        file_of(row_of("w600k_r50"))


@pytest.mark.parametrize("answer", [True, False])
def test_a_licence_is_asked_for_where_someone_answers(site: type[Server], cache: Path, answer: bool) -> None:
    asked: list[str] = []
    before = licence_question.set(lambda terms: asked.append(terms) or answer)  # type: ignore[func-returns-value]
    try:
        if answer:
            assert Embedder.load("w600k_mbf").width == Embedder.load("w600k_mbf").width == 6
        else:
            with pytest.raises(WeightsError, match="--accept-licence"):
                Embedder.load("w600k_mbf")
    finally:
        licence_question.reset(before)
    assert len(asked) == 1 and "non-commercial research only" in asked[0]
    assert ("w600k_mbf" in accepted()) == answer


@pytest.mark.parametrize(("terminals", "asks"), [((True, True), True), ((True, False), False), ((False, True), False)])
def test_the_command_line_asks_on_a_terminal_alone(
    terminals: tuple[bool, bool], asks: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, err: asked.append(text))
    before = licence_question.set(lambda _: False)
    for stream, is_terminal in zip(("stdin", "stderr"), terminals, strict=True):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda yes=is_terminal: yes, raising=False)
    try:
        assert main(["verify", "w600k_mbf", "a.jpg", "b.jpg"]) == 1
        assert bool(asked) == asks
    finally:
        licence_question.reset(before)


@pytest.mark.skipif(sys.platform == "win32", reason="wants a pseudo-terminal")
@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_the_licence_is_asked_for_and_the_download_shows_a_bar(
    site: type[Server], cache: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = os.openpty()
    shown, answers = bytearray(), [f"{answer}\n".encode()]

    def read() -> None:
        with suppress(OSError):  # the other side is closed
            while chunk := os.read(ours, 65_536):
                shown.extend(chunk)
                if answers and b"accept? [y/N]" in shown:  # one answers what one sees
                    os.write(ours, answers.pop())

    reader, unseen = threading.Thread(target=read), threading.Timer(60, os.write, (ours, b"\x04"))
    reader.start()
    unseen.start()  # the end of the file, where no question is seen
    before = licence_question.set(lambda _: False), download_handler.set(ignore_event)
    try:
        with open(theirs, closefd=False) as stdin, open(theirs, "w", closefd=False) as stderr:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stderr", stderr)
            status = main(["weights", "get", "w600k_mbf"])
    finally:
        licence_question.reset(before[0])
        download_handler.reset(before[1])
        unseen.cancel()
        os.close(theirs)
        reader.join()
        os.close(ours)
    said = shown.decode()
    question = said.index("non-commercial research only; training data WebFace600K")
    assert not answers
    assert said.rindex("\x1b[?25h", 0, question) > said.rindex("\x1b[?25l", 0, question)  # no line is redrawn over it
    assert (status, "w600k_mbf" in accepted(), bool(site.asked)) == (
        (0, True, True) if answer == "y" else (1, False, False)
    )
    assert ("w600k_mbf, kB: 2" in said[question:]) == (answer == "y")


def test_a_download_is_logged_with_its_size_address_and_folder(
    site: type[Server], cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LOGGED_EVERY", 0.0)
    with caplog.at_level("INFO", logger="facewright.downloads"):
        file_of(row_of("sface"))
    said, *later = (record.getMessage() for record in caplog.records if record.name == "facewright.downloads")
    for part in ("sface.onnx", f"{len(BODY):,} bytes", row_of("sface").source, str(cache / "weights")):
        assert part in said
    assert later[-1] == f"sface.onnx: {len(BODY):,} of {len(BODY):,} bytes"


def test_a_detector_as_recognizer_and_the_other_way_round_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="yunet is a face detector: give it to --detector"):
        Recognizer.load("yunet")
    with pytest.raises(UsageError, match="sface is a face recognizer"):
        detector_of("sface")
    (tmp_path / "theirs.onnx").write_bytes(BODY)
    with pytest.raises(WeightsError, match="a vector of 6 numbers an image"):
        detector_of(str(tmp_path / "theirs.onnx"))
    import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", mean=(0,) * 3, std=(1,) * 3, colour="rgb")
    with pytest.raises(WeightsError, match="a model of Facewright"):
        detector_of(str(tmp_path / "ours.onnx"))


@pytest.mark.realdata
def test_a_detector_file_as_recognizer_is_refused(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "shared" / "weights" / "face_detection_yunet_2023mar.onnx"
    if not file.exists():
        pytest.skip("no ../shared")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == row_of("yunet").sha256
    for call in (lambda: Recognizer.load(file), lambda: import_model(file, tmp_path / "x.onnx")):
        with pytest.raises(UsageError, match=r"is a face detector \(yunet\)"):
            call()
    chosen = set_default(str(file), tmp_path)
    assert (chosen.model, chosen.detector) == ("built-in", str(file))


def test_the_default_is_built_in_until_one_is_chosen(
    site: type[Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_defaults().model == "built-in"
    assert main(["models", "default", "sface"]) == 0
    assert main(["models", "default", "yunet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"model": "sface", "detector": "yunet"}
    set_default("dlib")
    assert (Recognizer.load().name, Recognizer.load().detector) == ("sface", "dlib")
    assert Recognizer.load("built-in").name == "built-in"
    with pytest.raises(FacewrightError, match="nothing-like-this"):
        set_default("nothing-like-this")
    (tmp_path / "theirs.onnx").write_bytes(BODY)
    with pytest.raises(BundleError, match="not a file of"):
        set_default(str(tmp_path / "theirs.onnx"))
    assert set_default("built-in").model == "built-in"


def test_the_default_is_shown_with_its_licence(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for state in ("not accepted yet", "accepted"):
        assert main(["models", "default", "w600k_r50"]) == 0
        shown = capsys.readouterr().out
        assert f"w600k_r50: licence non-commercial research only, {state}; training data WebFace600K" in shown
        accept(row_of("w600k_r50"))
    assert main(["models", "default", "built-in"]) == 0 and "licence" not in capsys.readouterr().out


def test_the_list_shows_one_in_full(cache: Path) -> None:
    from facewright.cli.main import app

    shown = CliRunner().invoke(app, ["weights", "list", "scrfd_10g"]).stdout
    assert "non-commercial research only *" in shown and "WIDER FACE: CC BY-NC-ND 4.0" in shown
    assert str(row_of("scrfd_10g").sha256) in shown and "16,923,827" in shown
    rows = json.loads(CliRunner().invoke(app, ["weights", "list", "edgeface_xs", "--json"]).stdout)["weights"]
    assert (rows[0]["sha256"], rows[0]["asks"], rows[0]["here"]) == (row_of("edgeface_xs").sha256, True, False)
