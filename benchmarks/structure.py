"""Compare the structure of two checkouts: sizes, documentation, and the modules and CPU seconds of common commands.

    python benchmarks/structure.py OLD NEW      two checkouts; one prints a single column

Both are run by this interpreter, which needs the package's dependencies; this script itself needs none of them.
"""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

QUESTIONS = ("What", "Whether", "Where", "Who")
WORDS = 4  # a longer text in a test pins the wording of a message
COMMANDS = {
    "--help": ("--help",),
    "recipes": ("recipes",),
    "models": ("models",),
    "weights list": ("weights", "list"),
    "verify": ("verify", "{photos}/a.png", "{photos}/b.png"),
    "gallery identify": ("gallery", "identify", "-g", "{photos}/people.gallery", "{photos}/b.png"),
}

SETUP = """
import sys
from PIL import Image
from facewright.cli.main import main
from facewright.data import portrait
try:
    from facewright.data.portrait.scene import scene  # an older checkout
except ModuleNotFoundError:
    scene = portrait.scene
for seed, name in ((5, "a"), (6, "b")):  # faces that the detector is sure of
    Image.fromarray(scene(seed=seed, index=0, width=320, height=320, faces=1)[0]).save(f"{sys.argv[1]}/{name}.png")
status = main(["gallery", "enroll", "-g", f"{sys.argv[1]}/people.gallery", "Ann", f"{sys.argv[1]}/a.png"])
sys.exit(status)
"""
MEASURE = """
import contextlib, io, resource, sys
from facewright.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    try:
        status = main(sys.argv[1:])
    except SystemExit as ended:
        status = ended.code
usage = resource.getrusage(resource.RUSAGE_SELF)
ours = sum(name.split(".")[0] == "facewright" for name in sys.modules)
print(status or 0, ours, int("torch" in sys.modules), usage.ru_utime + usage.ru_stime)
"""


def trees(folder: Path) -> Iterator[ast.Module]:
    """Parse every Python file below a folder."""
    for path in sorted(folder.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yield the public functions and classes of a module, and the public methods of its public classes."""
    classes: list[ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            classes += [node] if isinstance(node, ast.ClassDef) else []
    for owner in classes:
        yield from (n for n in owner.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


def body_lines(node: ast.FunctionDef) -> int:
    """Count the lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def texts(node: ast.expr) -> str:
    """Join the text constants of an expression."""
    return " ".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def pinned(tree: ast.Module) -> int:
    """Count `match=` and `"..." in output` with more than `WORDS` words."""
    nodes = list(ast.walk(tree))
    matches = [k.value for n in nodes if isinstance(n, ast.Call) for k in n.keywords if k.arg == "match"]
    within = [n.left for n in nodes if isinstance(n, ast.Compare) and isinstance(n.ops[0], (ast.In, ast.NotIn))]
    return sum(len(texts(one).split()) > WORDS for one in (*matches, *within))


def static(checkout: Path) -> dict[str, str]:
    """Measure the source text of a checkout."""
    source = checkout / "src/facewright"
    files = list(source.rglob("*.py"))
    modules = list(trees(source))
    publics = [node for tree in modules for node in public(tree)]
    documented = sum(ast.get_docstring(node) is not None for node in publics)
    owners = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    docstrings = [ast.get_docstring(n) or "" for tree in modules for n in ast.walk(tree) if isinstance(n, owners)]
    bodies = [body_lines(n) for tree in modules for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    return {
        "lines of src": f"{sum(len(path.read_text(encoding='utf-8').splitlines()) for path in files):,}",
        "files of src": f"{len(files)}",
        "documented public functions and classes": f"{documented / len(publics):.0%} of {len(publics):,}",
        "docstrings that begin with a question word": f"{sum(text.startswith(QUESTIONS) for text in docstrings)}",
        "lines of a function body: median, 90 %, max": (
            f"{statistics.median(bodies):.0f}, {statistics.quantiles(bodies, n=10)[-1]:.0f}, {max(bodies)}"
        ),
        f"tests that pin more than {WORDS} words": f"{sum(pinned(tree) for tree in trees(checkout / 'tests'))}",
    }


def execute(checkout: Path, code: str, *arguments: str) -> str:
    """Run code with a checkout's package; return its standard output."""
    env = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {checkout}: {arguments}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def command(checkout: Path, words: tuple[str, ...], rounds: int = 3) -> str:
    """Run one command; the modules of ours that it loaded, and the least CPU seconds of some rounds."""
    seconds = []
    for _ in range(rounds):
        status, ours, torch, took = execute(checkout, MEASURE, *words).split()
        seconds.append(float(took))
    failed = "" if status == "0" else f", exit {status}"
    return f"{ours} modules, {min(seconds):.1f} s{', torch' if torch == '1' else ''}{failed}"


def measure(checkout: Path, tell: Callable[[str], None]) -> dict[str, str]:
    """Measure one checkout: its text, then its commands."""
    facts = static(checkout)
    with tempfile.TemporaryDirectory() as folder:
        execute(checkout, SETUP, folder)
        for name, words in COMMANDS.items():
            tell(f"{checkout}: facewright {name}")
            facts[f"`facewright {name}`"] = command(checkout, tuple(word.format(photos=folder) for word in words))
    return facts


def main() -> None:
    """Print a Markdown table with a column for each checkout."""
    checkouts = [Path(word).resolve() for word in sys.argv[1:]]
    if not checkouts or not all((path / "src/facewright").is_dir() for path in checkouts):
        raise SystemExit("usage: python benchmarks/structure.py CHECKOUT [CHECKOUT]")
    columns = [measure(path, lambda line: print(line, file=sys.stderr)) for path in checkouts]
    heads = ["before", "after"] if len(columns) == 2 else [path.name for path in checkouts]
    print("\n".join([f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]))
    for row in columns[0]:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


if __name__ == "__main__":
    main()
