"""Found faces shown: boxes drawn on a photo, and a page with the faces of each person of sorted photos.

On that page decisions are made: it gives the command to type. Nothing is sent or loaded from elsewhere; the one script
is named by its hash in the page's policy.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from facewright.images import Pixels

FOUND, TRUE, INK = (255, 176, 0), (0, 229, 255), (20, 20, 20)  # told apart by every eye, and as greys
SIDE = 640  # px: lines and letters are made for photos of this longer side, and grow with larger ones
SHOWN = 500  # faces of a person on the page
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 1rem auto; max-width: 72rem; padding: 0 1rem }
h2 { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .5rem }
h2 label { font-size: .875rem; font-weight: 400 } h2 input[type=text] { font: inherit; width: 9rem }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .5rem }
figure { margin: 0 } figure label { display: block } img { display: block; width: 100%; border-radius: .3rem }
figcaption { font-size: .75rem } figcaption input { margin: .25rem .3rem 0 0; vertical-align: -1px }
.doubtful img { outline: 3px solid #d97706; outline-offset: -3px } .doubtful b { color: light-dark(#9a4b00, #f5a742) }
figure:has(:checked) img { opacity: .35 }
form { position: sticky; bottom: 0; background: Canvas; border-top: 1px solid GrayText; padding: .6rem 0 }
textarea { box-sizing: border-box; width: 100%; font: .8rem/1.4 ui-monospace, monospace; resize: vertical }
button { font: inherit; padding: .3rem .9rem }
"""
SCRIPT = """
const quote = (text) => /^[\\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\\\''") + "'";
const command = document.querySelector("textarea"), all = (kind) => [...document.querySelectorAll(kind)];
function update() {
  const merged = all(".merge:checked").map((one) => one.value), words = [];
  if (merged.length > 1) words.push("--merge", quote(merged.join(",")));
  for (const one of all(".split:checked")) words.push("--split", one.value);
  for (const one of all(".name")) {
    const name = one.value.trim();
    if (name && name !== one.dataset.person) words.push("--name", quote(`${one.dataset.person}=${name}`));
  }
  command.value = words.length ? [command.dataset.start, ...words].join(" ") : "";
}
document.addEventListener("input", update);
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  command.select();
  navigator.clipboard ? navigator.clipboard.writeText(command.value) : document.execCommand("copy");
});
update();
"""


def draw_boxes(
    photo: Pixels,
    boxes: ArrayLike,
    scores: Sequence[float | str | None],
    truth: ArrayLike | None = None,
    points: ArrayLike = (),
) -> Pixels:
    """Draw boxes on a photo: found ones amber with their scores, true ones in thin cyan beneath.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        boxes, truth: (K, 4) and (T, 4) x, y, width, height, px; None: the true ones are not known.
        scores: K of them, or names; None is not written.
        points: (K, P, 2) x, y of landmarks, px: dots.
    """
    page = Image.fromarray(photo)
    draw = ImageDraw.Draw(page)
    line = max(1, round(2 * max(page.size) / SIDE))
    font = ImageFont.load_default(max(10, round(11 * max(page.size) / SIDE)))
    for box in [] if truth is None else _corners(truth):
        draw.rectangle(box, outline=TRUE, width=max(1, line // 2))
    for box, score in zip(_corners(boxes), scores, strict=True):
        draw.rectangle(box, outline=FOUND, width=line)
        if score is None:
            continue
        label = score if isinstance(score, str) else f"{score:.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), label, font)
        at = (box[0], max(0, box[1] - (bottom + 2)))  # on the box; at the photo's upper edge, inside it
        draw.rectangle((at[0], at[1], at[0] + right + 3, at[1] + bottom + 2), fill=FOUND)
        draw.text((at[0] + 2, at[1]), label, INK, font)
    for x, y in np.asarray(points, np.float64).reshape(-1, 2).tolist():
        draw.ellipse((x - line, y - line, x + line, y + line), fill=TRUE, outline=INK)
    return np.asarray(page)


def _corners(boxes: ArrayLike) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom in whole pixels."""
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    edges = np.rint(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]])).astype(int)
    return [(int(x), int(y), int(right), int(bottom)) for x, y, right, bottom in edges]


@dataclass(frozen=True)
class Person:
    """A person and the faces to show."""

    name: str
    faces: tuple[tuple[str, str, str, bool], ...]  # the crop's relative path, the key, the photo, if it is doubtful


def contact_sheet(people: Sequence[Person], threshold: float, out: str = "DIR", unsorted: str = "unsorted") -> str:
    """Return the page.

    Args:
        people: in the order to show them; one without faces is left out. threshold: of two faces, for the first line.
        out: the folder that the command names. unsorted: the person who is none: there is nothing to decide.
    """
    shown = [person for person in people if person.faces]
    faces = sum(len(person.faces) for person in shown)
    alone = sum(len(person.faces) for person in shown if person.name == unsorted)
    people_ = sum(person.name != unsorted for person in shown)
    counts = f"{faces:,} faces: {people_:,} people, {alone:,} faces like no other"
    sections = "".join(_section(person, person.name != unsorted) for person in shown)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    start = escape(f"facewright cluster --out {shlex.quote(out)}", quote=True)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'\">"
        f"<title>Sorted faces</title><style>{STYLE}</style><h1>Sorted faces</h1><p>{counts}. Two faces with a "
        f"similarity of {threshold:.3f} or more are one person; groups need less. Mark groups that are one person, "
        f"mark faces of another person, and give names; then run the command below.</p>{sections}<form><label>Command "
        f'<textarea readonly rows=2 data-start="{start}" placeholder="Nothing changed yet"></textarea>'
        "</label><button>Copy</button></form>"
        f"<script>{SCRIPT}</script></html>\n"
    )


def _section(person: Person, decided: bool) -> str:
    figures = "".join(_figure(*face, decided) for face in person.faces[:SHOWN])
    more = f"<p>{len(person.faces) - SHOWN} more</p>" if len(person.faces) > SHOWN else ""
    name = escape(person.name, quote=True)
    choices = (
        f'<label><input type="checkbox" class="merge" value="{name}" autocomplete="off"> merge</label><label>Name '
        f'<input type="text" class="name" data-person="{name}" autocomplete="off" placeholder="{name}"></label>'
    )
    return f'<h2>{name} ({len(person.faces)}){choices if decided else ""}</h2><div class="faces">{figures}</div>{more}'


def _figure(path: str, key: str, photo: str, doubtful: bool, decided: bool) -> str:
    box = f'<input type="checkbox" class="split" value="{escape(key, quote=True)}" autocomplete="off">not this person'
    text = ("<b>doubtful</b><br>" if doubtful else "") + (box if decided else "")
    kind = " class=doubtful" if doubtful else ""
    return (
        f'<figure{kind} title="{escape(photo, quote=True)}"><label><img loading="lazy" alt="{escape(key, quote=True)}" '
        f'src="{escape(quote(path))}"><figcaption>{text}</figcaption></label></figure>'
    )
