"""Write tour.ipynb from the scripts beside it.

    python examples/make_tour.py

The docstring of a script becomes text, and so does each unindented comment; the code below it becomes a cell. The
command-line arguments become an empty list, to be filled in by hand. There are no outputs.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOUR = HERE / "tour.ipynb"
OPENING = """# A tour of Facewright

From synthetic faces to a classifier, a comparison, a verifier, a scanner, a fitted function and an ONNX file.
Run it from top to bottom; it takes two to three minutes. Nothing is downloaded. To use your own data, put the path
into the list `own`, for example `own = ["../photos"]`. Trained models are in `runs/` beside this notebook."""
SHOWN = {"05_scan.py": "Image.open(scanned.drawn[-1]).copy()"}  # script -> a cell that shows an image it made


def notebook() -> dict[str, Any]:
    """Return the notebook in nbformat 4.5."""
    found = [("markdown", OPENING)]
    for script in scripts():
        found += cells_of(script.read_text(encoding="utf-8"))
        if script.name in SHOWN:
            found.append(("code", SHOWN[script.name]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [_cell(number, kind, text) for number, (kind, text) in enumerate(found)]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


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


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": f"cell-{number}",
        "cell_type": kind,
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def to_text() -> str:
    """Return the notebook as Jupyter would write it."""
    return json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TOUR.write_text(to_text(), encoding="utf-8")
    print(f"wrote {TOUR}")
