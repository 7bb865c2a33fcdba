"""`facewright verify`, `pairs`, `calibrate` and `embed`: the same person or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, place_for, say, show
from facewright.cli.progress import listener
from facewright.cli.recognition import BUILT_IN, DetectorOption, PolicyOption, describe_verification, name_of, precise
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.recognition import Matched
    from facewright.workflows.calibration import Calibrated

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run folder, its model.safetensors, or architecture@weights.")
]
Images = Annotated[Path | None, typer.Option("--images", help="The folder of the pictures that PAIRS names.")]
Crop = Annotated[
    float | None,
    typer.Option("--crop", help="Share of both sides of a photo to keep, centred; the model's if left out."),
]
Flip = Annotated[
    bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image; the model's habit if left out.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def verify(
    given: Annotated[
        list[str], typer.Argument(metavar="[MODEL] A B", help="Two photos; before them a model, if one is to decide.")
    ],
    far: Annotated[
        float | None, typer.Option("--far", help="Which threshold, of several that are stored or shipped.")
    ] = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    as_json: Json = False,
) -> None:
    """Say whether two photos show the same person.

    Without MODEL, nothing has to be trained: the built-in networks find the face in each photo, and the threshold comes
    with the package. A model of your own takes each photo as it is, or, with --detector, the face that is found in it;
    it decides by the threshold that `facewright calibrate` stored for that. Where there is no threshold, or no face,
    there is no decision, and the exit status is 1.

    \b
    Example:
      facewright verify a.jpg b.jpg
      facewright verify faces.safetensors a.jpg b.jpg --detector dlib
    """
    if not 2 <= len(given) <= 3:
        raise typer.BadParameter(f"expected two photos, or a model and two photos, got {number_of(len(given), 'word')}")

    from facewright import workflows

    model = given[0] if len(given) == 3 else BUILT_IN
    a, b = (Path(word) for word in given[-2:])
    found = workflows.verify(model, a, b, far=far, detector=detector, policy=name_of(policy))
    sides = list(zip((a, b), found.sides, strict=True))
    if as_json:
        emit(found.to_dict())
    elif found.score is not None:
        show("\n".join([describe_verified(found), *(f"{path}: {side.said}" for path, side in sides if side.said)]))
    if found.same is None:
        reasons = [f"{path}: {side.reason}" for path, side in sides if side.reason is not None]
        say(f"error: no decision: {'; '.join(reasons) or undecided(model, found)}")
        raise typer.Exit(1)


def undecided(model: str, found: Matched) -> str:
    """Why two faces got no answer, and what to do."""
    if model == BUILT_IN and found.decided_with not in (None, found.detector):
        return f"the shipped threshold is for --detector {found.decided_with}, not for {found.detector}"
    if model == BUILT_IN:
        return "no threshold is shipped for the networks of the installed face_recognition_models"
    if found.decided_with is not None:
        return (
            f"the model's threshold was chosen with --detector {found.decided_with}, not with {found.detector}: give "
            "that, or choose another with facewright calibrate"
        )
    detector = "" if found.detector == "none" else f" --detector {found.detector}"
    return (
        "the model holds no threshold for its present input; choose one on pairs of known people: facewright "
        f"calibrate {model} --pairs PAIRS --images DIR{detector} --far 0.001 --out NEW.safetensors"
    )


def pairs(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] PAIRS", help="LFW's pairs.txt, or a .csv with a,b,same[,fold]; before it a model."
        ),
    ],
    images: Images = None,
    crop: Crop = None,
    flip: Flip = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the page, the scores, the JSON.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a verifier on a list of pairs; without MODEL, the built-in networks.

    The accuracy is over the list's folds where it has any (LFW's ten), else over two halves of the people; each part is
    judged at the threshold that was best on the others. A photo that cannot be read, or in which no face is found, is a
    failure to acquire, and its pairs count as errors.

    \b
    Example:
      facewright pairs pairs.txt --images lfw/ --out report/
      facewright pairs mobilefacenet@weights.safetensors pairs.txt --images lfw/ --detector dlib
    """
    if not 1 <= len(given) <= 2:
        raise typer.BadParameter(f"expected a list of pairs, or a model and one, got {number_of(len(given), 'word')}")
    from facewright import workflows

    model = given[0] if len(given) == 2 else BUILT_IN
    folder = folder_of(images)
    with listener(quiet) as on_event:
        measured = workflows.pairs(
            model, given[-1], folder, out=out, crop=crop, flip=flip, detector=detector, policy=name_of(policy),
            on_event=on_event,
        )  # fmt: skip
    if as_json:
        emit(measured.to_dict())
    else:
        show(describe_verification(measured.result))
    say(
        f"report: {out / 'report.html'}"
        if out is not None
        else "for curves, histograms and the worst pairs add --out DIR"
    )


def calibrate(
    model: Model,
    far: Annotated[float, typer.Option("--far", help="The false-accept rate to choose the threshold for.")],
    where: Annotated[
        Path | None, typer.Option("--pairs", help="Development pairs: LFW's pairs.txt, or a .csv.")
    ] = None,
    images: Images = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Choose when `predict` answers unknown.")] = False,
    strangers: Annotated[
        str | None, typer.Option("--strangers", help="DATA of people who are no class of the model; with --unknown.")
    ] = None,
    crop: Crop = None,
    flip: Flip = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model file to write; its own if left out.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose a threshold on development data and store it in the model file.

    Never report a number measured on the same data. A rate that the data are too few to resolve is refused. A threshold
    is for the detector it was chosen with.

    \b
    Example:
      facewright calibrate runs/a --pairs dev.csv --images faces/ --far 1e-3 --detector dlib
      facewright calibrate runs/a --unknown --strangers others/ --far 0.05
    """
    if unknown != (strangers is not None) or unknown == (where is not None):
        raise UsageError("give --pairs PAIRS --images DIR, or --unknown --strangers DATA")

    from facewright import workflows

    with listener(quiet) as on_event:
        if strangers is not None:
            if any(option is not None for option in (crop, flip, images, detector, policy)):
                raise UsageError("--images, --crop, --flip, --detector and --policy are for pairs, not for --unknown")
            made = workflows.calibrate_unknown(model, strangers, far, out=out, on_event=on_event)
        elif where is not None:
            made = workflows.calibrate(
                model, where, folder_of(images), far, out=out, crop=crop, flip=flip, detector=detector,
                policy=name_of(policy), on_event=on_event,
            )  # fmt: skip
    if as_json:
        emit(made.to_dict())
    else:
        show(describe_calibrated(made))
    say(f"wrote {made.written}")


def embed(
    model: Model,
    where: Annotated[str, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    crop: Crop = None,
    flip: Flip = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the vector of every picture to a Parquet file.

    Columns id, path, label, digest, vector, model. MODEL may be built-in: the networks that come with the package find
    the face in each picture. In memory lies a batch at a time; a run that was stopped goes on where it was when the
    command is given again.

    \b
    Example:
      facewright embed runs/a photos/ --out vectors.parquet
      facewright embed built-in photos/ --out vectors.parquet
    """
    place_for(out)

    from facewright import workflows

    with listener(quiet) as on_event:
        written = workflows.embed(
            model, where, out, crop=crop, flip=flip, detector=detector, policy=name_of(policy), on_event=on_event
        )
    for broken in written.broken:
        say(f"left out: {broken.path}: {broken.reason}")
    if as_json:
        emit(written.to_dict())
    else:
        show(f"wrote {number_of(written.rows, 'vector')} of {written.width} numbers to {out}")


def folder_of(images: Path | None) -> Path:
    """The folder of the pictures.

    Raises:
        UsageError: it is not named.
    """
    if images is None:
        raise UsageError("give --images DIR, the folder of the pictures that PAIRS names")
    return images


def describe_verified(found: Matched) -> str:
    """The answer first, then what it rests on."""
    lines = [] if found.score is None else [f"score     {found.score:.4f}"]
    if found.same is not None and found.threshold is not None and found.far is not None:
        lines.insert(0, "the same person" if found.same else "two people")
        lines.append(f"threshold {found.threshold:.4f}, chosen for a false-accept rate of {found.far_target:g}")
        if found.probability is not None:
            lines.append(f"chance that it is one person, among such pairs  {chance(found.probability)}")
        lines.append(f"false accepts to expect  {precise(found.far)}, from {found.data}")
    return "\n".join(lines)


def describe_calibrated(made: Calibrated) -> str:
    """The threshold and what it was chosen on."""
    chosen = made.decision.threshold
    lines = [
        f"threshold {chosen.value:.4f} of {chosen.score}, for a false-accept rate of {chosen.far_target:g}",
        f"achieved  {precise(chosen.far)}",
    ]
    if chosen.tar is not None:
        lines.append(f"accepts   {precise(chosen.tar)} of genuine pairs")
    calibration = made.decision.calibration
    if calibration is not None:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in calibration.log_loss.items())
        lines.append(f"probabilities by the {calibration.method} map (held-out log loss: {losses})")
    found = "" if made.decision.detector == "none" else f", faces found by {made.decision.detector}"
    return "\n".join([*lines, f"chosen on {chosen.data}{found}"])


def chance(probability: float) -> str:
    """A probability in percent; never quite none or all, which no count of pairs can show.

    >>> chance(0.5), chance(0.9999), chance(2e-6)
    ('50.0 %', 'over 99.9 %', 'under 0.1 %')
    """
    if probability > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
