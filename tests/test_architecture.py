"""The layers of the package, and what no file of it may contain.

A file imports only from layers below its own; files on one layer do not know each other, except inside one folder, and
there without cycles. The checks read the source with `ast` (an import for type checking alone counts too: it is still
knowing). Below them stand mutants: small made-up packages that each break one rule and must be caught.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "facewright"

# The first part of a module's name below `facewright` -> its layer. A new file needs a line here.
LAYERS = {
    "errors": 0,
    "platforms": 0,
    "public_names": 0,
    "devices": 1,
    "events": 1,
    "files": 1,
    "images": 1,
    "input_spec": 1,
    "names": 1,
    "provenance": 1,
    "records": 1,
    "specs": 1,
    "vectors": 1,
    "data": 2,
    "graphs": 2,
    "heads": 2,
    "losses": 2,
    "metrics": 2,
    "models": 2,
    "bundle": 3,
    "faces": 3,
    "onnx_import": 3,
    "embedding": 4,
    "inference": 4,
    "training": 4,
    "evaluation": 5,
    "explanation": 5,
    "exportation": 5,
    "recognition": 5,
    "clustering": 5,
    "gallery": 6,
    "report": 6,
    "runs": 6,
    "video": 6,
    "regression": 7,
    "serve": 7,
    "workflows": 7,
    "cli": 8,
    "client": 8,
    "__init__": 9,  # the lazy names; `__version__` may be read from anywhere, for the package is there before its parts
    "__main__": 9,
}
TORCHLESS = {0, 1, LAYERS["cli"], LAYERS["__init__"]}  # layers that import no torch at module level
TENSORS = {"vectors"}  # on those layers, and made of torch
VAGUE = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "__import__",
    "numpy.lib.format.read_array",
}
TENSORS_ONLY = "models/conversion.py"  # the one file that may open a pickle: once, by the reader of tensors alone
DYNAMIC_IMPORT = "importlib.import_module"  # allowed in one file only, over a package's own table


@dataclass(frozen=True)
class Import:
    """One imported module of the package, and where the import stands."""

    line: int
    target: str  # "data.store"; "__init__" for the package itself


Package = Mapping[str, str]  # path below the package -> source


def read_package(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}


def module_of(path: str) -> str:
    """`data/store.py` -> `data.store`, `data/__init__.py` -> `data`, `__init__.py` -> `__init__`."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@cache
def parsed(source: str, path: str) -> ast.Module:
    return ast.parse(source, path)


def imports_of(path: str, package: Package, modules: Set[str]) -> Iterator[Import]:
    """Every import of a module of the package, wherever in the file it stands."""
    inside = ("facewright/" + path).split("/")[:-1]
    for node in ast.walk(parsed(package[path], path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{home}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top != "facewright" or rest == "__version__":
                continue
            while rest and rest not in modules and rest not in LAYERS:  # `data.store.PixelStore` -> `data.store`
                rest = rest.rpartition(".")[0]
            yield Import(node.lineno, rest or "__init__")


def layer_breaks(package: Package) -> list[str]:
    """Each import that goes up, or across, with its place and both layers."""
    found = []
    modules = {module_of(path) for path in package}
    for path in package:
        module = module_of(path)
        part = module.partition(".")[0]
        if part not in LAYERS:
            found.append(
                f"{path}:1: {part} has no layer: add a row in tests/test_architecture.py and docs/architecture.md"
            )
            continue
        for used in imports_of(path, package, modules):
            other = used.target.partition(".")[0]
            same_folder = part == other and "/" in path
            if other in LAYERS and LAYERS[other] >= LAYERS[part] and not same_folder:
                layers = f"layer {LAYERS[part]} imports {used.target} of layer {LAYERS[other]}"
                found.append(f"{path}:{used.line}: {module} of {layers}")
    return found


def cycles(package: Package) -> list[str]:
    """A circle of files inside a folder, where there is one."""
    modules = {module_of(path) for path in package}
    graph = {
        module_of(path): {used.target for used in imports_of(path, package, modules)} - {module_of(path)}
        for path in package
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those of functions, nor those for type checking."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]


def torch_breaks(package: Package) -> list[str]:
    """Module-level imports of torch on layers that do without."""
    found = []
    for path, source in package.items():
        part = module_of(path).partition(".")[0]
        if LAYERS.get(part) not in TORCHLESS or part in TENSORS:
            continue
        for node in at_import(parsed(source, path)):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "torch" for name in named):
                found.append(f"{path}:{node.lineno}: torch at module level on a layer that does without")
    return found


def full_names(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `np` -> `numpy`, `load` -> `torch.load`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name and its attributes, else nothing."""
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return above and f"{above}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def restricted_reading(path: str, tree: ast.AST) -> ast.AST | None:
    """The name in the one allowed call of `torch.load`: written out so, in one file, with `weights_only=True`."""
    if path != TENSORS_ONLY:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            return node.func if given.get("weights_only") == "True" and None not in given else None
    return None


def unsafe(path: str, source: str) -> list[str]:
    """Whatever could run code that came in a file, or import a name that came from outside (FAULTS 7 and 9)."""
    tree = parsed(source, path)
    known = full_names(tree)
    allowed = restricted_reading(path, tree)
    found = []
    for node in ast.walk(tree):
        what = ""
        if node is allowed:
            continue
        if isinstance(node, ast.Import):
            what = next((a.name for a in node.names if a.name.partition(".")[0] in UNSAFE_MODULES), "")
        elif isinstance(node, ast.ImportFrom):
            what = node.module if (node.module or "").partition(".")[0] in UNSAFE_MODULES and node.module else ""
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            what = "" if isinstance(node.value, ast.Constant) and node.value.value is False else "allow_pickle"
        elif isinstance(node, (ast.Name, ast.Attribute)):
            head, _, rest = dotted(node).partition(".")
            name = ".".join([known.get(head, head), *([rest] if rest else [])])
            banned = name in UNSAFE_CALLS or (name == DYNAMIC_IMPORT and path != "public_names.py")
            what = name if banned else ""
        if what:
            found.append(f"{path}:{getattr(node, 'lineno', 1)}: {what}")
    return found


def rank(name: str) -> tuple[int, str]:
    """The order of `__all__` that ruff keeps too: constants, classes, functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def unsorted_names(path: str, source: str) -> list[str]:
    found = []
    for node in parsed(source, path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = ast.literal_eval(node.value)
            if list(names) != sorted(set(names), key=rank):
                found.append(f"{path}:{node.lineno}: __all__ is not sorted")
    return found


PACKAGE = read_package(SOURCE)


def test_every_import_goes_down() -> None:
    assert not layer_breaks(PACKAGE)


def test_no_folder_has_a_circle() -> None:
    assert not cycles(PACKAGE)


def test_the_lower_layers_and_the_command_line_do_without_torch() -> None:
    assert not torch_breaks(PACKAGE)


def test_nothing_runs_code_from_a_file() -> None:
    assert not [line for path, source in PACKAGE.items() for line in unsafe(path, source)]


def test_no_file_has_a_vague_name() -> None:
    assert not [path for path in PACKAGE if VAGUE & set(module_of(path).split("."))]


def test_public_names_are_sorted() -> None:
    assert not [line for path, source in PACKAGE.items() for line in unsorted_names(path, source)]


# Each row: a package that breaks one rule -> where it must be caught.
MUTANTS = {
    "up a layer": ({"errors.py": "", "images.py": "import facewright.data.store", "data/store.py": ""}, "images.py:1:"),
    "up, from inside a function": (
        {"data/store.py": "def f():\n    from facewright.training import trainer", "training/trainer.py": ""},
        "data/store.py:2: data.store of layer 2 imports training.trainer of layer 4",
    ),
    "across, between folders": (
        {"data/store.py": "from facewright.models import catalog", "models/catalog.py": ""},
        "data/store.py:1:",
    ),
    "across, between files": ({"images.py": "from facewright import names", "names.py": ""}, "images.py:1:"),
    "up, relatively": ({"data/store.py": "from ..training.trainer import fit", "training/trainer.py": ""}, "layer 4"),
    "up, for type checking": (
        {"images.py": "if TYPE_CHECKING:\n    from facewright.data import Dataset", "data/__init__.py": ""},
        "images.py:2:",
    ),
    "the package itself": (
        {"images.py": "import facewright", "__init__.py": ""},
        "layer 1 imports __init__ of layer 9",
    ),
    "a file without a layer": ({"surprise.py": ""}, "surprise.py:1: surprise has no layer"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_layers_is_caught(name: str) -> None:
    package, expected = MUTANTS[name]
    breaks = layer_breaks(package)
    assert len(breaks) == 1
    assert expected in breaks[0]


def test_a_circle_is_caught() -> None:
    assert cycles({"data/a.py": "from facewright.data import b", "data/b.py": "from . import a"})
    assert not cycles({"data/a.py": "from facewright.data import b", "data/b.py": "import facewright.errors"})


def test_what_is_allowed_passes() -> None:
    package = {
        "errors.py": "",
        "data/records.py": "from facewright.errors import DataError",
        "data/store.py": "from facewright.data.records import Record\nfrom facewright import __version__",
        "training/trainer.py": "import torch\nfrom facewright.data import store",
    }
    assert not layer_breaks(package) + cycles(package) + torch_breaks(package)


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("import torch", True),
        ("from torch import nn", True),
        ("try:\n    import torch.nn as nn\nexcept ImportError:\n    pass", True),
        ("def f():\n    import torch", False),  # inside a command
        ("if TYPE_CHECKING:\n    from torch import Tensor", False),
        ("import torchless", False),
    ],
)
def test_module_level_torch(source: str, caught: bool) -> None:
    assert bool(torch_breaks({"images.py": source})) is caught
    assert bool(torch_breaks({"cli/main.py": source})) is caught
    assert not torch_breaks({"models/resnet.py": source})


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("import pickle", True),
        ("from pickle import loads", True),
        ("import torch\ntorch.load('a')", True),
        ("import torch as t\nt.load('a')", True),
        ("from torch import load as read\nread('a')", True),
        ("import numpy as np\nnp.load('a', allow_pickle=True)", True),
        ("import numpy as np\nnp.load('a', allow_pickle=yes)", True),
        ("import numpy as np\nnp.load('a', allow_pickle=False)", False),
        ("eval('1')", True),
        ("model.eval()", False),  # the method of a torch module
        ("f = exec", True),
        ("import yaml\nyaml.load('a')", True),
        ("import yaml\nyaml.safe_load('a')", False),
        ("import importlib\nimportlib.import_module(name)", True),
        ("from importlib import import_module\nimport_module(name)", True),
        ("__import__(name)", True),
    ],
)
def test_unsafe_reading(source: str, caught: bool) -> None:
    assert bool(unsafe("data/store.py", source)) is caught


@pytest.mark.parametrize(
    ("path", "source", "caught"),
    [
        ("models/conversion.py", "import torch\ntorch.load(a, weights_only=True)", 0),
        ("models/conversion.py", "import torch\ntorch.load(a, weights_only=True)\ntorch.load(b, weights_only=True)", 1),
        ("models/conversion.py", "import torch\ntorch.load(a, weights_only=safe)", 1),
        ("models/conversion.py", "import torch\ntorch.load(a, weights_only=False)", 1),
        ("models/conversion.py", "import torch\ntorch.load(a)", 1),
        ("models/conversion.py", "import torch\ntorch.load(a, weights_only=True, **more)", 1),
        ("models/conversion.py", "import torch\nread = torch.load\nread(a)", 1),
        ("models/weights.py", "import torch\ntorch.load(a, weights_only=True)", 1),
        ("bundle.py", "import torch\ntorch.load(a, weights_only=True)", 1),
    ],
)
def test_only_the_converter_opens_a_pickle_and_only_once(path: str, source: str, caught: int) -> None:
    assert len(unsafe(path, source)) == caught


def test_unsorted_public_names_are_caught() -> None:
    assert unsorted_names("a.py", "__all__ = ['b', 'a']")
    assert not unsorted_names("a.py", "__all__ = ['LIMIT', 'Class', 'a', 'b']")
