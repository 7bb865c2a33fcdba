"""A browser for the tests of the page, which watches what the page asks for and what the browser complains of."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright.data.portrait.face import draw_face
from facewright.data.portrait.identity import identity_of

WIDE, PHONE = (1400, 900), (360, 800)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
REFUSED = re.compile(r"Failed to load resource: (?:the server responded with a status of )?(\S+)")
PAYLOADS = (
    "<img src=x onerror=\"document.title='hit'\">",
    "<script>document.title='hit'</script>",
    "\"><svg onload=document.title='hit'>",
    "' onmouseover='document.title=1' x='",
    "javascript:document.title='hit'",
    "{{ 7 * 7 }} ${7 * 7}",
)

# Every piece of text that is seen, with its contrast to what lies behind it (WCAG 2.2, success criterion 1.4.3).
CONTRASTS = """() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const over = (colour, ground) => {
    context.fillStyle = ground; context.fillRect(0, 0, 1, 1);
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return `rgb(${[...context.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
  };
  const ground = (element) => element === null ? "white"
    : over(getComputedStyle(element).backgroundColor, ground(element.parentElement));
  const light = (colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const top = document.querySelector("dialog[open]") ?? document.body;
  const found = [];
  const walker = document.createTreeWalker(top, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const seen = node.textContent.trim() && element.checkVisibility({ visibilityProperty: true });
    if (!seen || element.closest(":disabled, .boxes, .unseen, .skip, noscript")) continue;
    const style = getComputedStyle(element), behind = ground(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(over(colour, behind)), light(behind)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([node.textContent.trim().slice(0, 60), (a + 0.05) / (b + 0.05), large ? 3 : 4.5]);
  }
  return found;
}"""


@dataclass
class Tab:
    """A page in a window of its own."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)  # by the console: errors, warnings, violations of the policy
    asked: list[str] = field(default_factory=list)  # every address
    refusals: set[str] = field(default_factory=set)  # statuses that the test provokes

    def open(self, path: str = "") -> None:
        self.page.goto(self.address + path)
        self.page.locator("body[data-ready]").wait_for()

    def look(self, *files: Any) -> str:
        """Choose a photo in the first tab; what is said of it."""
        self.page.get_by_role("tab", name="Look").click()
        self.page.locator("#look-intake input[type=file]").set_input_files(list(files))
        self.page.locator(".busy:visible").wait_for(state="detached")
        self.page.locator(".headline").wait_for()
        return str(self.page.locator(".headline").inner_text())

    def compare(self, a: Any, b: Any) -> str:
        """Choose two photos in the second tab; the verdict."""
        self.page.get_by_role("tab", name="Compare").click()
        for side, photo in enumerate((a, b)):
            self.page.locator("#compare input[type=file]").nth(side).set_input_files(photo)
        self.page.locator(".verdict").wait_for()
        return str(self.page.locator(".verdict").inner_text())

    def enrol(self, person: str, *files: Any) -> list[str]:
        """Enrol photos in the third tab; what became of each."""
        self.page.get_by_role("tab", name="Gallery").click()
        self.page.locator("#gallery-intake input[type=file]").set_input_files(list(files))
        self.page.get_by_label("Name", exact=True).fill(person)
        self.page.get_by_role("button", name=re.compile("^Enrol ")).last.click()
        self.page.get_by_role("button", name="Done").wait_for()
        states = self.page.locator("dialog .state").all_inner_texts()
        self.page.get_by_role("button", name="Done").click()
        return [str(state) for state in states]

    def width(self) -> int:
        """Of what could be scrolled to, px."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def verify(self) -> None:
        """Nothing ran, nothing was complained of, nobody else was asked."""
        refused = [said for said in self.said if (found := REFUSED.match(said)) and found[1] in self.refusals]
        assert [said for said in self.said if said not in refused] == []
        own = (self.address, f"blob:{self.address}", "data:image/")
        assert [address for address in self.asked if not address.startswith(own)] == []
        assert self.page.title() == "Facewright"


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (development dependency)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *CAMERA])
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def tab(
    chromium: Any, address: str, size: tuple[int, int] = WIDE, scheme: str = "light", path: str = ""
) -> Iterator[Tab]:
    """A window that is watched; closing it judges what was seen."""
    viewport = {"width": size[0], "height": size[1]}
    window = chromium.new_context(viewport=viewport, color_scheme=scheme, has_touch=size == PHONE)
    page = window.new_page()
    page.set_default_timeout(20_000)
    shown = Tab(page, address)
    page.on("console", lambda message: shown.said.append(message.text))
    page.on("pageerror", lambda error: shown.said.append(f"uncaught: {error}"))
    page.on("request", lambda request: shown.asked.append(request.url))
    try:
        shown.open(path)
        yield shown
        shown.verify()
    finally:
        window.close()


def photo(pixels: Any, name: str = "photo.png", kind: str = "PNG", **options: Any) -> dict[str, Any]:
    """A file as it is chosen in the browser."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(out, kind, **options)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": out.getvalue()}


def portrait(person: int, index: int = 0, side: int = 120, name: str = "") -> dict[str, Any]:
    """A drawn person as a file."""
    return photo(draw_face(identity_of(0, person), 0, index, side)[0], name or f"person-{person}-{index}.png")
