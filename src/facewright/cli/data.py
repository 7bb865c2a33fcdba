"""`facewright inspect`, `cache`, `data export` and `doctor`: what a dataset, the cache and this installation hold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, emit, named, number_of, report, say, say_left_out, show, table
from facewright.cli.progress import with_progress
from facewright.errors import UnknownName, UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.data.audit import Audit
    from facewright.evaluation.label_issues import LabelIssues
    from facewright.workflows.diagnosis import Diagnosis

SHOWN = 10  # cases of a kind; --json has all

app = typer.Typer(no_args_is_help=True, help="Write a dataset in another format.")


def inspect(
    data: opt.OptionalData = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet to this PNG file.")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Instead of DATA: find label issues in a run's data.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="With --labels: number of cross-validation folds.")] = 5,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="With --labels: pretrained weights to use; none: retrain the run's model."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="With --labels: also write this page.")] = None,
    detector: opt.CropDetector = None,
    store: opt.Form = None,
    order: opt.Order = None,
    columns: opt.Columns = None,
    names: opt.Names = None,
    layout: opt.Layout = None,
    label_from: opt.LabelFrom = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Inspect a dataset before it is used.

    Counts per class, sizes, broken files, exact and near duplicates, leakage, balance, mean and standard deviation.
    With --labels, instead: images of a run's data whose labels look wrong. Nothing is ever dropped.

    \b
    Example:
      facewright inspect photos/ --sheet sheet.png
      facewright inspect --labels runs/a --out label-issues.html
    """
    if labels is not None:
        if data is not None or sheet is not None or order is not None or columns or names or layout or label_from:
            raise UsageError("--labels inspects the data of a run: remove DATA and what describes it")
        check_writable(out)

        from facewright.workflows import label_issues

        result = with_progress(label_issues.find_label_issues, quiet)(
            labels, folds=folds, weights=weights, device=device
        )
        report(result.to_dict(), _describe_label_issues(result), as_json)
        say(f"wrote {labels / 'suspicious.json'}")
        say(f"report: {labels / 'report.html'}")
        if out is not None:
            label_issues.write_page(labels, out)
            say(f"wrote {out}")
        return
    if data is None:
        raise UsageError("nothing to inspect: give DATA, or --labels RUN")
    if weights is not None or out is not None:
        raise UsageError("--weights and --out belong to --labels RUN")
    check_writable(sheet)
    data = opt.address(data, order, columns, names, layout, label_from)

    from facewright.workflows import inspection

    audit, image = with_progress(inspection.inspect, quiet)(data, detector=detector, form=store)
    if sheet is not None:
        write_atomic(sheet, image)
        say(f"wrote {sheet}")
    report(audit.to_dict(), _describe_audit(audit), as_json)


def _describe_audit(audit: Audit) -> str:
    small, middle, large = (
        f"{height:g}x{width:g}" for height, width in (audit.sizes.smallest, audit.sizes.median, audit.sizes.largest)
    )
    mean, std = (" ".join(f"{value:.3f}" for value in one) for one in (audit.statistics.mean, audit.statistics.std))
    lines = [
        f"{audit.name}: {audit.images:,} images in {len(audit.counts)} classes, from {audit.where}",
        "",
        table(["class", "images"], [[name, f"{count:,}"] for name, count in audit.counts.items()]),
        "",
        f"height x width    smallest {small}, median {middle}, largest {large}",
        f"mean; std         {mean}; {std} (red green blue, 0 to 1)",
        f"broken files      {len(audit.broken):,}",
        f"exact duplicates  {number_of(len(audit.exact), 'group')}",
        f"near duplicates   {number_of(len(audit.near), 'pair')}",
    ]
    lines += [f"note: {note}" for note in audit.notes]
    lines += [f"broken: {named(broken.path)}: {broken.reason}" for broken in audit.broken[:SHOWN]]
    lines += [f"exact: {', '.join(image.path for image in group.images)}" for group in audit.exact[:SHOWN]]
    lines += [f"near: {pair.first.path}, {pair.second.path} ({pair.similarity:.3f})" for pair in audit.near[:SHOWN]]
    lines += [f"warning: {warning}" for warning in audit.warnings]
    return "\n".join(lines)


def _describe_label_issues(result: LabelIssues) -> str:
    from facewright.report.label_issues import in_words

    lines = [f"{result.dataset}: {result.n:,} images in {len(result.classes):,} classes", *in_words(result)]
    if result.suspects:
        rows = [[row.path, row.label, row.suggested, f"{row.margin:+.2f}"] for row in result.suspects[:SHOWN]]
        lines += ["", table(["another class", "label", "suggested", "margin"], rows)]
    outliers = () if result.likeness is None else result.likeness.strangers
    if outliers:
        alike = [[row.path, row.label, row.nearest, f"{row.likeness:.2f}"] for row in outliers[:SHOWN]]
        lines += ["", table(["unlike its class", "label", "nearest", "similarity"], alike)]
    for mixed in () if result.likeness is None else result.likeness.parted:
        sizes = f"{len(mixed.larger):,} and {len(mixed.smaller):,} images"
        cosines = f"cosine {mixed.within:.2f} within and {mixed.across:.2f} between"
        lines += ["", f"{mixed.label} is a mixed-identity class: {sizes}, {cosines}"]
        lines += [f"  as {', '.join(mixed.larger[:3])}", f"  or {', '.join(mixed.smaller[:3])}"]
    return "\n".join(lines)


def cache(
    action: Annotated[
        Literal["list", "clear", "verify"],
        typer.Argument(metavar="list|clear|verify", help="List the entries, remove them, or check every byte."),
    ] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One entry. Default: all.")] = None,
    as_json: opt.Json = False,
) -> None:
    """List, clear or verify the cache of decoded images.

    verify reads every byte and removes what is damaged; it is decoded again when needed.

    \b
    Example:
      facewright cache list
      facewright cache clear
      facewright cache verify
    """
    from facewright.data.cache import cache_clear, cache_entries, cache_folder, cache_verify

    every = cache_entries()
    entries = [entry for entry in every if name in (None, entry.name)]
    if name is not None and not entries:
        raise UnknownName("cache entry", name, [entry.name for entry in every])
    size = sum(entry.bytes for entry in entries)
    freed = cache_clear(name) if action == "clear" else 0
    sound = cache_verify(name) if action == "verify" else {}
    if as_json:
        listed = [asdict(e) | ({"sound": sound[e.name]} if e.name in sound else {}) for e in entries]
        emit({"folder": str(cache_folder()), "action": action, "bytes": size, "freed": freed, "entries": listed})
    elif action == "clear":
        show(f"{cache_folder()}: {freed / 1e6:.1f} MB freed")
    elif action == "verify":
        for entry in entries:
            state = "sound" if sound[entry.name] else "damaged and removed; it is decoded again when needed"
            show(f"{entry.name}: {entry.images:,} images: {state}")
    else:
        rows = [
            [entry.name, entry.where, f"{entry.images:,}", f"{entry.height}x{entry.width}", f"{entry.bytes / 1e6:.1f}"]
            for entry in entries
        ]
        show(table(["name", "dataset", "images", "size", "MB"], rows) if rows else "the cache is empty")
        show(f"{cache_folder()}: {size / 1e6:.1f} MB")


@app.command("export")
def export(
    data: opt.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    form: Annotated[Literal["npz"], typer.Option("--to", help="Format to write.")] = "npz",
    size: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Side in pixels. Default: the size that all images have.")
    ] = None,
    order: Annotated[opt.ColourOrder, typer.Option("--colour-order", help="Of the images in the new file.")] = "rgb",
    detector: opt.CropDetector = None,
    select_face: opt.FaceChoice = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Write a dataset as arrays: input (N, H, W, 3), target (N, 1), classes.

    Images that cannot be read, or show no face with --detector, are left out and named. An .npz in BGR is opened as
    "faces.npz?colour-order=bgr".

    \b
    Example:
      facewright data export photos/ --to npz --out faces.npz --size 64
      facewright data export photos/ --out crops.npz --detector dlib --size 112
    """
    check_writable(out)

    from facewright.workflows.inspection import export_dataset

    written = with_progress(export_dataset, quiet)(
        data, out, size=size, colour_order=order, detector=detector, select_face=select_face
    )
    say_left_out(written.broken)
    if as_json:
        emit(asdict(written) | {"form": form})
    else:
        size_of = f"{written.height}x{written.width}"
        show(f"wrote {number_of(written.images, 'image')} of {size_of} in {len(written.classes):,} classes")
    say(f"data: {written.where}")


def doctor(as_json: opt.Json = False) -> None:
    """Show versions, devices, extras, folders and what is wrong, for a bug report.

    \b
    Example:
      facewright doctor
      facewright doctor --json
    """
    from facewright.workflows.diagnosis import doctor as diagnose

    found = diagnose()
    report(found.to_dict(), _describe_installation(found), as_json)


def _describe_installation(found: Diagnosis) -> str:
    absent = {name: missing for name, missing in found.extras.items() if missing}
    present = ", ".join(name for name, missing in found.extras.items() if not missing) or "none"
    rows = [
        ("facewright", found.facewright),
        ("python", found.python),
        ("machine", f"{found.machine}, {number_of(found.cores, 'core')}"),
        ("packages", ", ".join(f"{name} {version or '(missing)'}" for name, version in found.packages.items())),
        ("extras", present),
        *((f"  {name}", f"needs {', '.join(missing)}") for name, missing in absent.items()),
        ("device", found.device),
        ("cache", f"{found.cache}, {'can' if found.cache_writable else 'cannot'} be written"),
        ("stores", f"{number_of(found.stores, 'data set')}, {found.store_bytes / 2**20:,.0f} MiB"),
        ("weights", ", ".join(found.weights) or "none downloaded"),
        ("licences", ", ".join(found.licences) or "none accepted"),
        ("default", f"model {found.defaults['model']}, detector {found.defaults['detector'] or 'of the model'}"),
        ("variables", ", ".join(f"{name}={value}" for name, value in found.variables.items()) or "none set"),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name.ljust(width)}{value}" for name, value in rows]
    return "\n".join([*lines, "", *([f"problem: {one}" for one in found.problems] or ["no problem found"])])
