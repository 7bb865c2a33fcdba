"""`facewright data`: a dataset written in another form; and the option that says how an .npz is to be read."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from facewright.cli.output import emit, number_of, place_for, say, show
from facewright.cli.progress import listener
from facewright.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Write a dataset in another form.")


class Order(StrEnum):
    """Which channel comes first."""

    RGB = "rgb"
    BGR = "bgr"


class Form(StrEnum):
    """What a dataset can be written as."""

    NPZ = "npz"


OrderOption = Annotated[
    Order | None, typer.Option("--colour-order", help="Of the pictures in an .npz; rgb where left out.")
]


def address(where: str, order: Order | None) -> str:
    """DATA with the colour order in it, so that a run that goes on reads the same pixels.

    Raises:
        UsageError: DATA is no .npz, or says another order.

    >>> address("faces.npz", Order.BGR)
    'faces.npz?colour-order=bgr'
    """
    if order is None:
        return where
    from facewright.data.arrays import with_colour_order

    return with_colour_order(where, order.value)


def optional_address(where: str | None, order: Order | None) -> str | None:
    """The same where DATA may be left out.

    Raises:
        UsageError: there is an order and no DATA that it could be of.
    """
    if where is not None:
        return address(where, order)
    if order is not None:
        raise UsageError("--colour-order says how DATA is read; give DATA, or leave it out")
    return None


@app.command("export")
def export(
    where: Annotated[str, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    form: Annotated[Form, typer.Option("--to", help="The form to write.")] = Form.NPZ,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side in pixels; left out, all must have one size.")
    ] = None,
    order: Annotated[Order, typer.Option("--colour-order", help="Of the pictures in the new file.")] = Order.RGB,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a dataset as arrays: input (N, H, W, 3), target (N, 1), classes.

    Pictures that cannot be read are left out and named. An .npz in BGR is opened as "faces.npz?colour-order=bgr".

    \b
    Example:
      facewright data export photos/ --to npz --out faces.npz --size 64
    """
    place_for(out)

    from facewright.data.exporting import export_npz
    from facewright.data.sources import open_dataset

    with listener(quiet) as on_event:
        written = export_npz(
            open_dataset(where),
            out,
            size=size,
            colour_order=order.value,
            on_event=on_event,
        )
    for broken in written.broken:
        say(f"left out: {broken.path}: {broken.reason}")
    if as_json:
        emit(asdict(written) | {"form": form.value})
    else:
        size_of = f"{written.height}x{written.width}"
        show(f"wrote {number_of(written.images, 'image')} of {size_of} in {len(written.classes)} classes")
    say(f"data: {written.where}")
