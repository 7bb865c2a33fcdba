"""The card of a model, made of what its file, its run and measurements on pairs record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.embedding import Embedder, open_model
from facewright.errors import DataError, UsageError, WeightsError, require_extra
from facewright.evaluation.subgroups import Subgroups
from facewright.evaluation.targets import TaskResult
from facewright.evaluation.verification import VerificationResult
from facewright.files import as_record, model_file, read_json, write_atomic
from facewright.input_spec import InputSpec
from facewright.metrics.intervals import Rate
from facewright.models.downloads import MOST_BYTES
from facewright.models.face_weights import face_weights
from facewright.models.released import RELEASED
from facewright.recognition import built_in
from facewright.records import Record
from facewright.report.model_card import Measured, ModelCard, markdown
from facewright.runs import Run

CARD = "card"  # in the provenance of a bundle
RESULT = "verification.json"  # what `pairs --out` leaves

README = "README.md"
MODELS = (".safetensors", ".onnx")
PICKLED = frozenset(
    [".bin", ".ckpt", ".dill", ".h5", ".joblib", ".keras", ".npy", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".t7"]
)  # or may hold code in another way


def model_card(
    model: str | Path,
    *,
    results: Sequence[str | Path] = (),
    licence: str | None = None,
    out: str | Path | None = None,
    store: bool = False,
) -> ModelCard:
    """Collect what is recorded of a model.

    Args:
        model: a run directory, a model file, or a name of `face_weights`.
        results: folders that `pairs --out` wrote for this model, with verification.json.
        licence: of the weights, where the model does not say it.
        out: a Markdown file to write. store: whether the card is kept in the model file.
    Raises:
        UsageError: the built-in networks, or a result of another model. DataError: a result is damaged.
    """
    if built_in(model):
        raise UsageError(
            "expected a run, a model file or a name of `facewright weights list`: the built-in networks have no file"
        )
    bundle = open_model(model)
    path = Path(model)
    run = Run(path) if path.is_dir() else None
    embedder = Embedder(bundle)
    checked = [_verification(Path(result), embedder.fingerprint) for result in results]
    card = ModelCard(
        name=path.resolve().name if path.exists() else str(model),
        kind="classifier" if bundle.classes else "recognizer",
        architecture=bundle.architecture,
        fingerprint=embedder.fingerprint,
        classes=bundle.classes if bundle.task is None else bundle.task.names,
        targets=bundle.task is not None,
        licence=licence or _text(bundle.provenance.get("licence")),
        data=tuple(_data(bundle, run)),
        input=tuple(_input(bundle)),
        thresholds=bundle.thresholds,
        measured=(*_of_run(run), *(row for rows, _ in checked for row in rows)),
        subgroups=(*_groups_of_run(run), *(groups for _, found in checked for groups in found)),
    )
    if out is not None:
        write_atomic(Path(out), markdown(card))
    if store:
        _store(path, bundle, card)
    return card


def _store(path: Path, bundle: Bundle, card: ModelCard) -> None:
    """Keep the card in the model file; the fingerprint of the model stays."""
    file = model_file(path)
    if not file.is_file():
        raise UsageError(f"{path}: expected a run or a model file to keep the card in; name a file with --out")
    bundles.save(file, replace(bundle, provenance={**bundle.provenance, CARD: markdown(card)}))


def _data(bundle: Bundle, run: Run | None) -> Iterator[tuple[str, str]]:
    if run is not None:
        facts = run.facts
        yield "data", f"{facts.dataset}, fingerprint {facts.fingerprint}"
        yield "images", ", ".join(f"{count:,} {part}" for part, count in facts.counts.items())
        yield "recipe", f"{facts.recipe}, seed {facts.seed}, epochs: {facts.epochs or 0:,}"
        if facts.weights is not None:
            yield "began with", facts.title
            yield from _terms(facts.start)
    told = (CARD, "licence", *(() if run is None else ("recipe", "seed", "data", "dataset")))
    for key, value in bundle.provenance.items():
        if key not in told and isinstance(value, str | int | float) and value not in ("", None):
            yield key, str(value)
    weights = bundle.provenance.get("weights")
    if isinstance(weights, str) and (run is None or run.facts.weights is None):
        yield from _terms(weights)


def _terms(title: str) -> Iterator[tuple[str, str]]:
    row = face_weights(title) or next((row for row in RELEASED if row.title == title), None)
    if row is not None:
        yield "licence of these weights", f"{row.licence} ({row.licence_source})"
        yield "data of these weights", f"{row.data} ({row.data_source})"


def _input(bundle: Bundle) -> Iterator[tuple[str, str]]:
    spec: InputSpec = bundle.spec
    channels = ([f"{255 * value:.4g}" for value in values] for values in (spec.mean, spec.std))
    mean, std = (values[0] if len({*values}) == 1 else f"({', '.join(values)})" for values in channels)
    yield "input", f"{spec.height} × {spec.width} px, {spec.colour_order}, (x - {mean}) / {std}, x in 0..255"
    yield "mirror image", "added" if spec.flip else "not added"
    yield "aligned crops", "ArcFace's" if bundle.template is None else bundle.template.name
    if spec.faces is not None:
        yield "trained on crops of", spec.faces.detector


def _of_run(run: Run | None) -> Iterator[Measured]:
    if run is not None and (run.folder / "evaluation.json").is_file():
        evaluation, data = run.evaluation, f"test part of {run.facts.dataset}"
        if isinstance(evaluation, TaskResult):
            yield from _of_targets(evaluation, data)
        else:
            yield from _rates(evaluation, data)


def _of_targets(result: TaskResult, data: str) -> Iterator[Measured]:
    """Yield the accuracy of each target and the error of each number, each beside its baseline if it has one."""
    if result.attributes is not None:
        yield Measured(what="mean accuracy of attributes", data=data, rate=result.attributes.mean_accuracy)
        yield Measured(what="mean of always the majority", data=data, rate=result.attributes.mean_baseline)
        for attribute in result.attributes.attributes:
            yield Measured(what=f"{attribute.name}: accuracy", data=data, rate=attribute.accuracy)
            yield Measured(what=f"{attribute.name}: always the majority", data=data, rate=attribute.baseline)
    for name, one in (*result.classes.items(), *result.votes.items()):
        if (accuracy := getattr(one, "accuracy", None)) is not None:
            yield Measured(what=f"{name}: accuracy", data=data, rate=accuracy)
    for number in result.numbers:
        errors = {
            "mean absolute error": number.mean_absolute_error,
            f"always {number.baseline:.4g}": number.baseline_mean_absolute_error,
        }
        for what, rate in errors.items():
            yield Measured(what=f"{number.name}: {what}", data=data, rate=rate, unit="")
        if number.interval is not None and number.interval.coverage is not None:
            what = f"{number.name}: inside ± {number.interval.half_width:.4g}, asked {100 * number.interval.level:g} %"
            yield Measured(what=what, data=data, rate=number.interval.coverage)


def _groups_of_run(run: Run | None) -> Iterator[Subgroups]:
    groups = None if run is None or not (run.folder / "evaluation.json").is_file() else run.evaluation
    if (found := getattr(groups, "subgroups", None)) is not None:
        yield found


def _rates(result: Record, data: str) -> Iterator[Measured]:
    """Yield every rate of a result; those of its parts are left out."""
    for name, value in result:
        if isinstance(value, Rate):
            yield Measured(what=name.replace("_", " "), data=data, rate=value)


def _verification(folder: Path, fingerprint: str) -> tuple[list[Measured], list[Subgroups]]:
    """Read a result of `pairs --out`; raises UsageError where it is another model's."""
    path = folder / RESULT if folder.is_dir() else folder
    facts: dict[str, Any] = read_json(path, dict[str, Any], error=DataError)
    if facts.get("network") != fingerprint:
        raise UsageError(f"{path}: expected a result of this model ({fingerprint}), got one of {facts.get('network')}")
    known = {key: facts[key] for key in VerificationResult.model_fields if key in facts}
    result = as_record(known, VerificationResult, str(path), error=DataError)
    data = f"{facts.get('pairs')}, detector {facts.get('detector')}"
    rows = list(_rates(result, data))
    rows += [Measured(what=f"TAR at FAR {row.far:g}", data=data, rate=row.tar) for row in result.tar_at_far]
    held = facts.get("subgroups")
    groups = [] if held is None else [as_record(held, Subgroups, str(path), error=DataError)]
    return rows, groups


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class OnHub(Record):
    """A model that was sent to the Hub, or fetched from it."""

    repo: str
    file: str  # in the repository
    path: str  # here
    revision: str
    private: bool | None = None  # None: fetched


def push(
    model: str | Path,
    repo: str,
    *,
    results: Sequence[str | Path] = (),
    licence: str | None = None,
    public: bool = False,
    endpoint: str | None = None,
) -> OnHub:
    """Send a model file and its card to the Hub; `results` and `licence` are of `model_card`.

    Args:
        model: a run directory or a model file.
        repo: OWNER/NAME, made where there is none: private unless `public`.
        endpoint: of another server; default: $HF_ENDPOINT, else huggingface.co.
    Raises:
        UsageError: no model file. WeightsError: the Hub refuses, or cannot be reached.
    """
    require_extra("hub", "facewright push")
    path = Path(model)
    file = model_file(path)
    if not file.is_file() or file.suffix.lower() not in MODELS:
        raise UsageError(f"{model}: expected a run or a model file (.safetensors, .onnx)")
    card = markdown(model_card(model, results=results, licence=licence))
    from huggingface_hub import CommitOperationAdd, HfApi

    name = f"model{file.suffix.lower()}"
    with _refusals(repo):
        api = HfApi(endpoint=endpoint)
        api.create_repo(repo, private=not public, exist_ok=True)
        operations = [
            CommitOperationAdd(path_in_repo=README, path_or_fileobj=card.encode()),
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file)),
        ]
        commit = api.create_commit(repo, operations, commit_message=f"Add {name} and its card")
    return OnHub(repo=repo, file=name, path=str(file), revision=commit.oid, private=not public)


def pull(repo: str, out: str | Path, *, revision: str | None = None, endpoint: str | None = None) -> OnHub:
    """Fetch a model file from the Hub, and check that it is one of Facewright.

    Args:
        repo: OWNER/NAME. out: the file to write; its suffix is that of the file there. revision: a branch, a tag or a
            commit; default: main. endpoint: as `push`.
    Raises:
        UsageError: `out` has another suffix. WeightsError: the repository holds a pickled file, no or several models,
            or one that is too large; or the Hub refuses. BundleError: the file is no model of Facewright.
    """
    require_extra("hub", "facewright pull")
    from huggingface_hub import HfApi

    target = Path(out)
    with _refusals(repo):
        api = HfApi(endpoint=endpoint)
        info = api.model_info(repo, revision=revision, files_metadata=True)
        name = _the_model(repo, info.siblings or [])
        if target.suffix.lower() != Path(name).suffix:
            raise UsageError(f"{target}: {repo} holds {name}; name the file {target.stem}{Path(name).suffix}")
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".pull-") as folder:
            fetched = Path(api.hf_hub_download(repo, name, revision=info.sha, local_dir=folder))
            bundles.load(fetched)
            fetched.replace(target)
    return OnHub(repo=repo, file=name, path=str(target), revision=info.sha or "")


def _the_model(repo: str, files: Sequence[Any]) -> str:
    names = [str(file.rfilename) for file in files]
    if pickled := [name for name in names if Path(name).suffix.lower() in PICKLED]:
        raise WeightsError(f"{repo}: holds {pickled[0]}, which may be pickled code; nothing was downloaded")
    models = [file for file in files if Path(file.rfilename).suffix.lower() in MODELS]
    if len(models) != 1 or "/" in models[0].rfilename or models[0].rfilename.startswith("."):
        raise WeightsError(f"{repo}: expected one file of {' or '.join(MODELS)}, got {', '.join(names[:12]) or 'none'}")
    if (models[0].size or 0) > MOST_BYTES:
        raise WeightsError(f"{repo}: {models[0].rfilename} has more than {MOST_BYTES:,} bytes; not downloaded")
    return str(models[0].rfilename)


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """Turn what the Hub's library raises into one clear line."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        raise WeightsError(f"{repo}: the Hub answers: {' '.join(str(error).split())[:400]}") from None
