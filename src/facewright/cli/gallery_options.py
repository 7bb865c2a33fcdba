"""The options that the gallery's commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Where = Annotated[
    str,
    typer.Option("--gallery", "-g", metavar="FILE|URL", help="The gallery: one file, or a PostgreSQL address."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A run folder, a bundle, architecture@weights or built-in; the gallery's if left out, or built-in.",
    ),
]
Crop = Annotated[
    float | None,
    typer.Option("--crop", help="Share of both sides of a photo to keep, centred; as the model."),
]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image; as the model.")]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos of faces.")]
People = Annotated[int, typer.Option("--top", "-k", min=1, help="How many people to tell of.")]
Filter = Annotated[
    list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only entries with this; may be repeated.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
