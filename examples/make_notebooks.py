"""Write tour.ipynb from the numbered scripts beside it, without outputs, and results.ipynb from results.py, with them.

    python examples/make_notebooks.py

The docstring of a script becomes text, and so does each unindented comment; the code below it becomes a cell. The
command-line arguments become an empty list, to be filled in by hand.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOUR, RESULTS = HERE / "tour.ipynb", HERE / "results.ipynb"
OPENING = """# A tour of Facewright

From synthetic faces to a classifier, a comparison, a verifier, a scanner, a fitted function and an ONNX file.
Run it from top to bottom; it takes two to three minutes. Nothing is downloaded. To use your own data, put the path
into the list `own`, for example `own = ["../photos"]`. Trained models are in `runs/` beside this notebook."""
SHOWN = {"05_scan.py": "Image.open(scanned.drawn[-1]).copy()"}  # script -> a cell that shows an image it made


def tour() -> dict[str, Any]:
    """Return the notebook of the numbered scripts, in nbformat 4.5."""
    found = [("markdown", OPENING)]
    for script in scripts():
        found += cells_of(script.read_text(encoding="utf-8"))
        if script.name in SHOWN:
            found.append(("code", SHOWN[script.name]))
    return _notebook(found)


def results() -> dict[str, Any]:
    """Return the notebook of results.py after running it."""
    made = _notebook(cells_of((HERE / "results.py").read_text(encoding="utf-8")))
    names: dict[str, Any] = {"__name__": "results"}
    for count, cell in enumerate([cell for cell in made["cells"] if cell["cell_type"] == "code"], start=1):
        cell |= {"execution_count": count, "outputs": outputs("".join(cell["source"]), names, count)}
    return made


def outputs(code: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell; return what it prints, and what its last expression shows, as a notebook stores them."""
    *body, last = ast.parse(code).body
    if isinstance(last, ast.Expr):
        last = ast.Assign([ast.Name("_", ast.Store())], last.value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.fix_missing_locations(ast.Module([*body, last], [])), "results.py", "exec"), names)
    value = names.pop("_", None)
    text = printed.getvalue()
    found: list[dict[str, Any]] = []
    if text:
        found.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        shown = {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": display(value)}
        found.append(shown)
    return found


def display(value: Any) -> dict[str, Any]:
    """Return the forms in which Jupyter shows a value, by media type."""
    if hasattr(value, "_repr_png_"):
        return {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["an image"]}
    if hasattr(value, "_repr_html_"):
        page = value._repr_html_()
        return {"text/html": page.splitlines(keepends=True), "text/plain": [f"a {type(value).__name__}"]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def scripts() -> list[Path]:
    """Return the example scripts in order."""
    return sorted(HERE.glob("[0-9]*.py"))


def cells_of(script: str) -> list[tuple[str, str]]:
    """Return the cells of one script: ("markdown" or "code", text).

    >>> cells_of('\"\"\"Do it.\"\"\"\\n\\nimport sys\\n\\nown = sys.argv[1:]\\n\\n# Now\\n# print.\\nprint(own)\\n')
    [('markdown', '## Do it'), ('code', 'own = []'), ('markdown', 'Now print.'), ('code', 'print(own)')]
    """
    tree = ast.parse(script)
    title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    found = [("markdown", f"## {title.rstrip('.')}\n{rest}".rstrip())]
    body = "\n".join(script.splitlines()[tree.body[0].end_lineno :]).replace("import sys\n", "", 1)
    body = body.replace("sys.argv[1:]", "[]")
    for block in re.split(r"\n\n(?=# )", body):
        match = re.match(r"(?:# .*\n)*", block.lstrip("\n"))
        comment = "" if match is None else match[0]
        if comment:
            found.append(("markdown", " ".join(line.removeprefix("# ") for line in comment.splitlines())))
        found.append(("code", block.lstrip("\n").removeprefix(comment).strip("\n")))
    return found


def _notebook(found: list[tuple[str, str]]) -> dict[str, Any]:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [_cell(number, kind, text) for number, (kind, text) in enumerate(found)]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": f"cell-{number}",
        "cell_type": kind,
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def to_text(notebook: dict[str, Any]) -> str:
    """Return a notebook as Jupyter would write it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, made in ((TOUR, tour), (RESULTS, results)):
        path.write_text(to_text(made()), encoding="utf-8")
        print(f"wrote {path}")
