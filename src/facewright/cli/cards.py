"""`facewright card`, `push` and `pull`: what is recorded of a model, and models on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, report, say

Results = Annotated[
    list[Path] | None,
    typer.Option("--results", metavar="DIR", help="A folder of `facewright pairs --out` for this model. Repeatable."),
]
Licence = Annotated[str | None, typer.Option("--licence", help="Licence of the weights. Default: the model's own.")]
Repo = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A repository of the Hugging Face Hub.")]


def card(
    model: opt.Model,
    results: Results = None,
    licence: Licence = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Markdown file. Default: standard output.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Keep the card in the model file too.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Write a model card from what is recorded, as Markdown.

    Data, licence, input, template, thresholds, measurements, subgroups, intended use and limits. What is not recorded
    is said.

    \b
    Example:
      facewright pairs mine.onnx pairs.csv --images lfw/ --detector dlib --out measured/
      facewright card mine.onnx --results measured/ --out CARD.md --store
    """
    check_writable(out)
    from facewright.report.model_card import markdown
    from facewright.workflows.model_card import model_card

    made = model_card(model, results=results or (), licence=licence, out=out, store=store)
    report(made.to_dict(), markdown(made).rstrip() if out is None else f"wrote {out}", as_json)
    for line in made.limits():
        say(f"note: {line}")


def push(
    model: opt.Classifier,
    repo: Repo,
    results: Results = None,
    licence: Licence = None,
    public: Annotated[bool, typer.Option("--public", help="Anyone may read it. Default: private.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Send a model file and its card to the Hugging Face Hub.

    The token is that of `hf auth login` or HF_TOKEN.

    \b
    Example:
      facewright push mine.onnx me/mine --results measured/
    """
    from facewright.workflows import hub

    sent = hub.push(model, repo, results=results or (), licence=licence, public=public)
    report(sent.to_dict(), f"{sent.repo}: {sent.file}, revision {sent.revision}", as_json)


def pull(
    repo: Repo,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: NAME.safetensors or NAME.onnx.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: main.")] = None,
    as_json: opt.Json = False,
) -> None:
    """Fetch a model of Facewright from the Hugging Face Hub.

    A repository that holds a pickled file is refused.

    \b
    Example:
      facewright pull me/mine --out mine.onnx
    """
    check_writable(out)
    from facewright.workflows import hub

    fetched = hub.pull(repo, out, revision=revision)
    report(fetched.to_dict(), f"wrote {fetched.path}, revision {fetched.revision}", as_json)
