"""A page with the faces of each person of sorted photos; no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

SHOWN = 500  # faces of a person on the page
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 1rem auto; max-width: 72rem; padding: 0 1rem }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); gap: .5rem }
figure { margin: 0 } img { width: 100%; border-radius: .3rem }
code, figcaption { font-size: .7rem; overflow-wrap: anywhere }
.doubtful img { outline: 3px solid #d97706 } .doubtful figcaption::before { content: "doubtful " }
"""


@dataclass(frozen=True)
class Person:
    """A person and the faces to show."""

    name: str
    faces: tuple[tuple[str, str, str, bool], ...]  # the crop's relative path, the key, the photo, if it is doubtful


def contact_sheet(people: Sequence[Person], threshold: float) -> str:
    """Return the page.

    Args:
        people: in the order to show them; one without faces is left out. threshold: for the first line.
    """
    shown = [person for person in people if person.faces]
    counts = f"{len(shown)} groups, {sum(len(person.faces) for person in shown)} faces"
    sections = "".join(_section(person) for person in shown)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
        "style-src 'unsafe-inline'\">"
        f"<title>Sorted faces</title><style>{STYLE}</style><h1>Sorted faces</h1><p>{counts}; one person: average "
        f"similarity of at least {threshold:.3f}. To change it: <code>facewright cluster --out DIR --merge NAME,NAME "
        f"--split KEY --name NAME=NEW</code></p>{sections}</html>\n"
    )


def _section(person: Person) -> str:
    figures = "".join(
        f'<figure{" class=doubtful" if doubtful else ""}><img loading="lazy" alt="" src="{escape(quote(path))}">'
        f'<figcaption title="{escape(photo)}">{escape(key)}</figcaption></figure>'
        for path, key, photo, doubtful in person.faces[:SHOWN]
    )
    more = f"<p>{len(person.faces) - SHOWN} more</p>" if len(person.faces) > SHOWN else ""
    return f'<h2>{escape(person.name)} ({len(person.faces)})</h2><div class="faces">{figures}</div>{more}'
