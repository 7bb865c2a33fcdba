"""The documentation names what the package has, and what it shows can be typed."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import facewright
from facewright.cli.main import app
from facewright.training import recipe
from facewright.training.recipe_parts import Training

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "facewright"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app)


def test_the_api_page_lists_every_public_name() -> None:
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    public = []
    for name in facewright.__all__:
        value = getattr(facewright, name)
        if getattr(value, "__module__", "").startswith("facewright"):
            public.append(f"{value.__module__}.{value.__qualname__}")
    assert sorted(listed) == sorted(public)


def resolves(reference: str) -> bool:
    """Return whether a dotted name below the package is a module, or what one holds."""
    home, *rest = reference.split(".")
    found, where = importlib.import_module(f"facewright.{home}"), f"facewright.{home}"
    for name in rest:
        where = f"{where}.{name}"
        if not hasattr(found, name) and name not in getattr(found, "__annotations__", {}):
            try:
                importlib.import_module(where)
            except ImportError:
                return False
        found = getattr(found, name, found)
    return True


def test_every_dotted_name_is_one() -> None:
    homes = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")} - {"facewright"}
    wrong = [
        (path.name, reference)
        for path in [*PACKAGE.rglob("*.py"), *DOCUMENTS]
        for reference in re.findall(r"`(?:facewright\.)?([a-z_]+(?:\.[A-Za-z_]+)+)(?:\(\))?`", path.read_text("utf-8"))
        if reference.split(".")[0] in homes
        and not re.search(r"\.(json|toml|csv|html|gallery|onnx|py|md)$", reference)
        and not (reference.startswith("training.") and reference[9:] in Training.model_fields)  # keys of a recipe
        and not resolves(reference)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_linked(page: Path) -> None:
    assert page.name in (ROOT / "mkdocs.yml").read_text("utf-8")
    if page.name != "index.md":
        assert f"({page.name})" in (ROOT / "docs" / "index.md").read_text("utf-8")
        assert page.name in {"api.md", "faults.md"} or f"(docs/{page.name}" in (ROOT / "README.md").read_text("utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200


def shown_commands(document: Path) -> Iterator[str]:
    """Each `facewright ...` of a document: of a block of commands, continued lines joined, or between backticks."""
    text = document.read_text("utf-8")
    for block in re.findall(r"^```(?:bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S* |torchrun .*-m |docker run .*\s)?facewright (?=\S)(.*)", line)
            if found:
                yield found[1]
    for inline in re.findall(
        r"`(?:facewright) ([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    ):
        yield inline.replace("\n", " ")


def check_command(shown: str) -> None:
    """Raise an error unless the command and its options are known, and its recipe takes what `--set` gives it."""
    words = [word for word in shlex.split(re.sub(r"(--\S+) …", r"\1 VALUE", shown), comments=True) if word != "…"]
    words = words[: next((n for n, word in enumerate(words) if word in {"&&", "|", ">"}), len(words))]
    if " ".join(words[:2]) in COMMANDS.commands:
        words = [" ".join(words[:2]), *words[2:]]
    command, context = COMMANDS, COMMANDS.context_class(COMMANDS)
    while words and not words[0].startswith("-") and hasattr(command, "get_command"):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"no command {words[0]!r}"
        command, words, context = inner, words[1:], inner.context_class(inner, parent=context)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, f"not taken: {rest}"
    changes = dict(change.split("=", 1) for change in values.get("changes") or ())
    if changes and "task" not in values and command.name != "fit":
        name = values.get("recipe", "finetune" if "phases.head" in str(changes) else "scratch")
        recipe.override(recipe.load(name), changes)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: page.name)
def test_every_shown_command_is_one(document: Path) -> None:
    wrong = []
    for shown in shown_commands(document):
        try:
            check_command(shown)
        except Exception as error:
            wrong.append(f"facewright {shown}: {getattr(error, 'message', error)}")
    assert wrong == []


def test_every_example_of_the_help_is_one() -> None:
    wrong, commands = [], [COMMANDS]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for shown in re.findall(r"^\s*(?:\$ )?facewright (\S.*)$", command.help or "", re.MULTILINE):
            try:
                check_command(shown.replace("\\", ""))
            except Exception as error:
                wrong.append(f"facewright {shown}: {getattr(error, 'message', error)}")
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if document.name == "index.md" and not path.exists():
            path = ROOT / name
        headings = (
            re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            if path.suffix == ".md" and path.is_file()
            else []
        )
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        if not path.exists() or (anchor and anchor not in anchors):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: page.name)
def test_every_python_block_uses_public_names(document: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fw":
                assert hasattr(facewright, node.attr), f"fw.{node.attr}"
