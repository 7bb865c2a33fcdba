"""Models on the Hugging Face Hub: one model file and its card, safetensors or ONNX, and nothing that is pickled.

The token is that of `hf auth login` or $HF_TOKEN; it is never an option, and never printed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facewright import bundle as bundles
from facewright.errors import UsageError, WeightsError, require_extra
from facewright.models.downloads import MOST_BYTES
from facewright.records import Record
from facewright.report.model_card import markdown
from facewright.workflows.model_card import model_card

README = "README.md"
MODELS = (".safetensors", ".onnx")
PICKLED = frozenset(
    [".bin", ".ckpt", ".dill", ".h5", ".joblib", ".keras", ".npy", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".t7"]
)  # or may hold code in another way


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
    file = path / "model.safetensors" if path.is_dir() else path
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
    """Return the one model file among those of a repository."""
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
