"""Model cards hold what is recorded and say what is not; models go to the Hub and come from it, never pickled."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from facewright import bundle as bundles
from facewright.cli.main import main
from facewright.embedding import Embedder
from facewright.errors import BundleError, FacewrightError, UsageError, WeightsError
from facewright.report.model_card import markdown
from facewright.workflows.model_card import CARD, model_card, pull, push
from facewright.workflows.pair_evaluation import pairs
from fixtures.faces import draw_people, write_pairs
from fixtures.plain_graph import saved

pytest.importorskip("huggingface_hub", reason="needs the extra hub")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "mine.onnx")


def test_a_card_says_what_is_not_recorded(model: Path) -> None:
    card = model_card(model)
    assert (card.kind, card.classes, card.licence) == ("classifier", ("red", "green"), None)
    assert card.fingerprint == Embedder.load(model).fingerprint and ("seed", "0") in card.data
    limits = list(card.limits())
    assert len(limits) == 3 and all(limit in markdown(card) for limit in limits)
    assert markdown(card).startswith("---\nlicense: other\n")


def test_a_card_shows_measurements_and_groups_of_this_model_alone(tmp_path: Path, model: Path) -> None:
    people = draw_people(tmp_path / "people", 6, 4)
    listed = write_pairs(tmp_path / "pairs.csv", 6, 4, 300)
    rows = [f"{path.relative_to(people).as_posix()},{'even' if int(path.parent.name[-2:]) % 2 == 0 else 'odd'}"
            for path in sorted(people.rglob("*.png"))]  # fmt: skip
    (tmp_path / "attributes.csv").write_text("\n".join(["path,kind", *rows]) + "\n")
    measured = pairs(
        model, listed, people, out=tmp_path / "measured", by="kind", attributes=tmp_path / "attributes.csv"
    )
    card = model_card(model, results=[tmp_path / "measured"], licence="MIT")
    accuracy = next(row for row in card.measured if row.what == "accuracy")
    assert measured.result.accuracy is not None and accuracy.rate == measured.result.accuracy
    shown = markdown(card)
    assert f"{100 * accuracy.rate.value:.2f} % ({100 * accuracy.rate.low:.2f} to" in shown
    assert [groups.column for groups in card.subgroups] == ["kind"] and "| odd |" in shown and "license: mit" in shown
    facts = json.loads((tmp_path / "measured" / "verification.json").read_text())
    (tmp_path / "measured" / "verification.json").write_text(json.dumps(facts | {"network": "0" * 32}))
    with pytest.raises(UsageError, match="0000"):
        model_card(model, results=[tmp_path / "measured"])


def test_a_card_is_kept_in_the_model_and_leaves_its_fingerprint(model: Path, tmp_path: Path) -> None:
    before = Embedder.load(model).fingerprint
    assert main(["card", str(model), "--licence", "CC0-1.0", "--store", "--out", str(tmp_path / "CARD.md")]) == 0
    bundle = bundles.load(model)
    assert bundle.provenance[CARD] == (tmp_path / "CARD.md").read_text() and Embedder(bundle).fingerprint == before
    assert "license: cc0-1.0" in bundle.provenance[CARD]
    with pytest.raises(UsageError, match="built-in"):
        model_card("built-in")


def test_text_of_a_model_is_no_markup(model: Path) -> None:
    bundle = bundles.load(model)
    hostile = {"seed": 0, "note": "<script>|\n# x", "licence": 'a"\nb: c'}
    bundles.save(model, bundles.replace(bundle, provenance=hostile))
    shown = markdown(model_card(model))
    assert "<script>" not in shown and "\n# x" not in shown
    header = yaml.safe_load(shown.split("---")[1])
    assert header["license_name"] == 'a"\nb: c' and header["pipeline_tag"] == "image-classification"


class Hub(BaseHTTPRequestHandler):
    """What the Hub answers to the requests of its library, for one repository."""

    files: dict[str, bytes]
    asked: list[str]
    private: bool | None = None

    def answer(self, facts: Any, status: int = 200) -> None:
        self.send(json.dumps(facts).encode(), status)

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            type(self).private = json.loads(body).get("visibility") == "private"
            self.answer({"url": f"http://{self.headers['Host']}/me/mine"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    type(self).files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            self.answer(
                {"success": True, "commitOid": "a" * 40, "commitUrl": f"http://{self.headers['Host']}/me/mine/commit/a"}
            )
        else:
            self.answer({"error": "no such page"}, 404)

    def do_GET(self) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        name = self.path.rpartition("/")[2].partition("?")[0]
        if self.path.startswith("/api/models/me/mine"):
            siblings = [{"rfilename": name, "size": len(body)} for name, body in self.files.items()]
            self.answer({"id": "me/mine", "modelId": "me/mine", "sha": "a" * 40, "siblings": siblings, "tags": []})
        elif "/resolve/" in self.path and name in self.files:
            body = self.files[name]
            self.send(body, X_Repo_Commit="a" * 40, ETag=f'"{hashlib.sha1(body).hexdigest()}"')
        else:
            self.answer({"error": "Repository not found"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Hub], str]]:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    handler = type("Bound", (Hub,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_goes_to_the_hub_and_comes_back(hub: tuple[type[Hub], str], model: Path, tmp_path: Path) -> None:
    handler, endpoint = hub
    sent = push(model, "me/mine", licence="MIT", endpoint=endpoint)
    assert (sent.file, sent.revision, handler.private) == ("model.onnx", "a" * 40, True)
    assert handler.files["model.onnx"] == model.read_bytes()
    assert handler.files["README.md"].decode() == markdown(model_card(model, licence="MIT"))
    fetched = pull("me/mine", tmp_path / "back.onnx", endpoint=endpoint)
    assert (tmp_path / "back.onnx").read_bytes() == model.read_bytes() and fetched.private is None
    assert not list(tmp_path.glob(".pull-*"))
    with pytest.raises(UsageError, match=r"back\.onnx"):
        pull("me/mine", tmp_path / "back.safetensors", endpoint=endpoint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "old/weights.PT", "scaler.pkl"])
def test_a_repository_with_a_pickled_file_is_refused_whole(
    hub: tuple[type[Hub], str], model: Path, tmp_path: Path, name: str
) -> None:
    handler, endpoint = hub
    handler.files |= {"model.onnx": model.read_bytes(), name: b"x"}
    with pytest.raises(WeightsError, match="pickled"):
        pull("me/mine", tmp_path / "x.onnx", endpoint=endpoint)
    assert not any("/resolve/" in line for line in handler.asked) and not (tmp_path / "x.onnx").exists()


def test_what_is_no_model_is_refused(hub: tuple[type[Hub], str], tmp_path: Path) -> None:
    handler, endpoint = hub
    with pytest.raises(WeightsError, match="expected one file"):
        pull("me/mine", tmp_path / "x.onnx", endpoint=endpoint)
    handler.files["model.onnx"] = b"no ONNX"
    with pytest.raises(BundleError):
        pull("me/mine", tmp_path / "x.onnx", endpoint=endpoint)
    assert not list(tmp_path.iterdir())
    for repo, address in (("me/none", endpoint), ("a b/c", endpoint), ("me/mine", "http://127.0.0.1:9")):
        with pytest.raises(FacewrightError, match=repo):
            pull(repo, tmp_path / "x.onnx", endpoint=address)
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match="expected a run or a model file"):
        push(tmp_path / "weights.pth", "me/mine", endpoint=endpoint)
