"""The page of a server with a gallery, in a real browser: who is on a photo, enrol, browse, delete, hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.browsing import CONTRASTS, PAYLOADS, PHONE, WIDE, Tab, browser, photo, portrait, tab
from fixtures.page_servers import BOXES, GROUP, Serve, Server, with_gallery

FILE = "<img src=x onerror=document.title=1>.png"  # without quotes, which forms carry as %22


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def gallery(serving: Serve, tmp_path: Path) -> Iterator[Server]:
    with with_gallery(serving, tmp_path) as server:
        yield server


def calibrate(server: Server, fpir: float) -> float:
    answer = server.client.post("v1/gallery/calibrate", json={"fpir": fpir})
    assert answer.status_code == 200, answer.text
    return float(answer.json()["threshold"]["value"])


def crowd(server: Server, people: int = 6) -> None:
    """People with two photos each, and a threshold."""
    for person in range(people):
        server.enrol(f"Person {person}", portrait(person, 0), portrait(person, 0, lighter=2))
    calibrate(server, 0.1)


def test_enrol_browse_delete(chromium: Any, gallery: Server) -> None:
    with tab(chromium, gallery.address) as shown:
        page = shown.page
        broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
        assert page.get_by_role("tab").all_inner_texts() == ["Look", "Compare", "Gallery"]
        states = shown.enrol("  Ann Archer ", portrait(0, 0), portrait(0, 1), broken)
        assert all(state.startswith("Enrolled; quality ") for state in states[:2])
        assert states[2:] == [
            "unsupported image format; expected JPEG, PNG, WebP, BMP, GIF, PNM, TIFF, AVIF, HEIC",
        ]
        assert gallery.people() == {"Ann Archer": 2}
        assert shown.enrol("Ann Archer", portrait(0, 0)) == ["Already enrolled"]
        shown.enrol("Bob", portrait(1))
        page.locator(".person", has_text="Bob").wait_for()
        assert page.locator("#gallery-count").inner_text() == "2 people, 3 photos"

        page.get_by_role("searchbox").fill("ARCH")
        page.locator(".person", has_text="Bob").wait_for(state="detached")
        page.get_by_role("searchbox").fill("zz")
        page.get_by_text('No name contains "zz".').wait_for()
        page.get_by_role("searchbox").fill("")

        page.locator(".person", has_text="Ann Archer").click()
        faces = page.locator("dialog .entries img")
        faces.nth(1).wait_for()
        assert faces.evaluate_all(
            "all => Promise.all(all.map((one) => one.decode().then(() => one.naturalWidth)))"
        ) == [40, 40]
        page.get_by_role("button", name="Delete person-0-1.png").click()
        page.get_by_role("button", name="Cancel").click()
        assert gallery.people()["Ann Archer"] == 2
        page.get_by_role("button", name="Delete person-0-1.png").click()
        assert "This is for good." in page.get_by_role("alertdialog").inner_text()
        page.get_by_role("button", name="Delete for good").click()
        page.locator("dialog .note", has_text="1 photo").wait_for()
        assert gallery.people()["Ann Archer"] == 1
        page.get_by_role("button", name="Delete this person").click()
        page.keyboard.press("Escape")
        assert gallery.people()["Ann Archer"] == 1
        page.get_by_role("button", name="Delete this person").click()
        page.get_by_role("button", name="Delete for good").click()
        page.locator(".person", has_text="Ann").wait_for(state="detached")
        assert gallery.people() == {"Bob": 1}


def test_people_are_searched_by_a_photo(chromium: Any, gallery: Server) -> None:
    crowd(gallery, 4)
    with tab(chromium, gallery.address, path="#gallery") as shown:
        page = shown.page
        page.locator("#gallery-advice", has_text="4 people have fewer than 3 photos").wait_for()
        page.locator(".person").first.wait_for()
        assert "Add 1 more" in page.locator(".person").first.inner_text()
        chooser = page.locator("#gallery-photo input[type=file]")
        chooser.set_input_files(portrait(2, 0))
        page.get_by_role("heading", name="Nearest matches of the face in person-2-0.png").wait_for()
        cards = page.locator("#gallery-found .person")
        assert "Person 2" in cards.first.inner_text() and "1.0000, match" in cards.first.inner_text()
        assert cards.count() == 4 and not page.locator("#gallery-people").is_visible()
        cards.first.click()
        page.locator("dialog .entries li").first.wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Show everybody").click()
        assert page.locator("#gallery-people").is_visible() and cards.count() == 0
        shown.refusals |= {"415", "400"}
        chooser.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"})
        page.locator("#gallery-error .error").wait_for()
        assert page.locator("#gallery-people").is_visible()


def people_folder(folder: Path) -> Path:
    """Two people; beside their photos a hidden file, a text, and a photo that is none."""
    for person, name in ((0, "Ann"), (0, "Ann"), (1, PAYLOADS[0].replace("/", "")), (2, ".hidden")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        number = len(list((folder / name).iterdir()))
        (folder / name / f"{number}.png").write_bytes(portrait(person, number)["buffer"])
    (folder / "Ann/notes.txt").write_text("no photo")
    (folder / "Ann/broken.png").write_bytes(b"no image")
    return folder


def test_a_folder_is_enrolled_with_progress(chromium: Any, gallery: Server, tmp_path: Path) -> None:
    with tab(chromium, gallery.address, path="#gallery") as shown:
        page = shown.page
        page.locator("#gallery-actions input[type=file]").set_input_files(people_folder(tmp_path / "people"))
        page.get_by_text("2 people, 4 photos.").wait_for()
        page.get_by_role("button", name="Enroll 4 photos").click()
        page.get_by_role("button", name="Done").wait_for()
        said = page.locator("dialog .note").inner_text()
        assert said == "4 of 4 photos: 3 enrolled, 0 already enrolled, 1 failed"
        assert page.locator("progress").evaluate("bar => bar.value") == 4
        assert page.locator(".failures").inner_text().startswith("Ann/broken.png: unsupported image format")
        page.get_by_role("button", name="Done").click()
        page.locator(".person", has_text="Ann").wait_for()
        assert sorted(gallery.people().values()) == [1, 2] and gallery.people()["Ann"] == 2


def test_each_face_has_its_box_and_its_name_and_no_label_covers_a_face(chromium: Any, gallery: Server) -> None:
    crowd(gallery)
    x, y, width, height = (int(length) for length in BOXES[0])
    gallery.enrol("The first of them", photo(GROUP[y : y + height, x : x + width]))
    threshold = calibrate(gallery, 0.1)
    with tab(chromium, gallery.address) as shown:
        assert shown.look(photo(GROUP)).startswith("3 faces, ")
        assert "from 57 px on" in shown.page.locator("#look-caption").inner_text()
        assert gallery.client.post("v1/faces", files={"photo": photo(GROUP)["buffer"]}).json()["searched"] == 57
        frame = shown.page.locator("#look-stage .frame").bounding_box()
        scale = frame["width"] / GROUP.shape[1]
        seen = [box.bounding_box() for box in shown.page.locator(".box").all()]
        for box, (x, y, width, height) in zip(seen, BOXES, strict=True):
            expected = (frame["x"] + x * scale, frame["y"] + y * scale, width * scale, height * scale)
            assert (box["x"], box["y"], box["width"], box["height"]) == pytest.approx(expected, abs=1.5)
        labels = [label.bounding_box() for label in shown.page.locator(".label").all()]
        assert not [(a, b) for a in labels for b in [*seen, *labels] if a is not b and overlap(a, b)]
        first = shown.page.locator(".face-row").first
        assert "The first of them" in first.inner_text() and f"threshold {threshold:.4f}" in first.inner_text()
        shown.page.locator(".box").nth(1).click()
        assert shown.page.locator(".face-row").nth(1).get_attribute("aria-expanded") == "true"
        scores = [float(text) for text in shown.page.locator(".match-score:visible").all_inner_texts()]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return (
        a["x"] < b["x"] + b["width"] and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"] and b["y"] < a["y"] + a["height"]
    )  # fmt: skip


@pytest.mark.slow
def test_a_face_is_enrolled_from_where_it_was_seen(chromium: Any, gallery: Server) -> None:
    crowd(gallery)
    with tab(chromium, gallery.address) as shown:
        page = shown.page
        shown.look(photo(GROUP, "group.png"))
        page.locator(".face-row").nth(2).click()
        page.get_by_role("button", name="Enroll this face").click()
        page.locator("dialog .file-name", has_text="group-face-3.png").wait_for()
        page.get_by_label("Name", exact=True).fill("Somebody new")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Done").click()
        page.locator(".working").wait_for(state="detached")
        assert gallery.people()["Somebody new"] == 1


@pytest.mark.slow
def test_the_threshold_is_chosen_and_its_state_told(chromium: Any, gallery: Server) -> None:
    with tab(chromium, gallery.address) as shown:
        page = shown.page
        shown.look(portrait(0))
        assert "The gallery is empty" in page.locator("#look-findings").inner_text()
        for person in range(6):
            gallery.enrol(f"Person {person}", portrait(person, 0), portrait(person, 0, lighter=2))
        page.get_by_role("tab", name="Gallery").click()
        page.get_by_text("No threshold is set").wait_for()
        shown.refusals |= {"400", "409"}
        page.get_by_label("Max. FPIR").select_option("0.001")
        page.get_by_role("button", name="Choose a threshold").click()
        page.locator(".told .error").wait_for()  # so few photos cannot bear that out: in the server's words
        assert page.locator(".told .error").inner_text().strip()
        page.get_by_label("Max. FPIR").select_option("0.1")
        page.get_by_role("button", name="Choose a threshold").click()
        page.get_by_text("identification rate: 10 %").wait_for()
        assert "Chosen on 6 people: too few to know that rate well." in page.locator(".known").inner_text()
        gallery.enrol("Person 7", portrait(7))
        page.get_by_role("tab", name="Look").click()
        page.get_by_role("tab", name="Gallery").click()
        page.get_by_text("Chosen when the gallery held 12 photos of 6 people; recalibrate.").wait_for()


@pytest.mark.slow
def test_many_people_come_page_by_page(chromium: Any, gallery: Server) -> None:
    for number in range(65):
        gallery.enrol(f"Person {number:02d}", portrait(0, 0, 40))
    with tab(chromium, gallery.address, path="#gallery") as shown:
        page = shown.page
        page.locator(".person").nth(59).wait_for()
        page.get_by_role("button", name="Show more").click()
        page.locator(".person").nth(64).wait_for()
        assert page.locator(".person-name").all_inner_texts() == [f"Person {number:02d}" for number in range(65)]
        assert page.evaluate("document.activeElement.dataset.person") == "Person 60"
        assert page.get_by_role("button", name="Show more").count() == 0


@pytest.mark.slow
def test_a_long_name_wraps_after_an_underscore(chromium: Any, gallery: Server) -> None:
    lines = """all => all.map(({ childNodes }) => [...childNodes].filter((one) => one.nodeType === 3).map((one) => {
      const range = document.createRange();
      range.selectNode(one);
      return [one.data, range.getClientRects().length];
    }))"""
    for person, name in enumerate(["Richard_Gephardt", "Hermengildo_Villavicencio"]):
        gallery.enrol(name, portrait(person, name=f"{name}_0001.png"))

    def with_folder(route: Any) -> None:  # as of photos that were enrolled on the command line
        found = route.fetch().json()
        route.fulfill(json={**found, "entries": [{**e, "photo": f"/home/me/{e['photo']}"} for e in found["entries"]]})

    with tab(chromium, gallery.address, PHONE) as shown:
        shown.page.get_by_role("tab", name="Gallery").click()
        names = shown.page.locator(".person-name")
        names.nth(1).wait_for()
        assert names.all_text_contents() == ["Hermengildo_Villavicencio", "Richard_Gephardt"]
        assert names.evaluate_all(lines) == [
            [["Hermengildo_", 1], ["Villavicencio", 1]],
            [["Richard_", 1], ["Gephardt", 1]],
        ]
        shown.page.route("**/v1/gallery/entries?*", with_folder)
        names.nth(1).click()
        file = shown.page.locator("dialog .file-name")
        assert (file.inner_text(), file.get_attribute("title")) == (
            "Richard_Gephardt_0001.png",
            "/home/me/Richard_Gephardt_0001.png",
        )
        assert file.evaluate_all(lines) == [[["Richard_", 1], ["Gephardt_", 1], ["0001.png", 1]]]


def test_names_with_markup_are_inert(chromium: Any, gallery: Server) -> None:
    for number, payload in enumerate(PAYLOADS):
        gallery.enrol(payload, portrait(number, 0, name=FILE), metadata='{"<b>k</b>": "<i>v</i>"}')
        gallery.enrol(payload, portrait(number, 0, name=FILE, lighter=2))
    calibrate(gallery, 0.1)
    with tab(chromium, gallery.address) as shown:  # closing it sees to it that nothing ran
        page = shown.page
        shown.enrol(PAYLOADS[0], portrait(9, name=FILE))
        assert sorted(page.locator(".person-name").all_inner_texts()) == sorted(PAYLOADS)
        for payload in PAYLOADS:
            page.locator(".person").filter(has=page.get_by_text(payload, exact=True)).click()
            page.locator("dialog .entries li").first.wait_for()
            assert page.locator("dialog h2").inner_text() == payload
            assert FILE in page.locator("dialog .file-name").all_inner_texts()
            assert page.locator("dialog .tag").first.inner_text() == "<b>k</b> <i>v</i>"
            page.get_by_role("button", name="Delete this person").click()
            assert page.get_by_role("alertdialog").locator("h2").inner_text() == f"Delete {payload}?"
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
        for number, payload in enumerate(PAYLOADS):
            assert shown.look(portrait(number, 0, name=FILE)) == payload
        shown.compare(portrait(0, name=PAYLOADS[0]), portrait(1, name=PAYLOADS[1]))
        page.get_by_role("button", name="About").click()
        assert page.locator("img[src=x], svg[onload], body script, b, i").count() == 0


def every_state(shown: Tab, server: Server, folder: Path) -> Iterator[str]:
    """Each tab and dialog in turn, by its name."""
    page = shown.page
    yield "nothing yet"
    shown.look(photo(GROUP))
    page.locator(".face-row").first.click()
    yield "faces"
    shown.compare(portrait(0), portrait(0))
    yield "the same"
    shown.compare(portrait(0), portrait(3))
    page.locator(".verdict", has_text="No match").wait_for()
    page.get_by_role("button", name="Why?").click()
    page.locator(".heat").wait_for()
    yield "why"
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".person").first.wait_for()
    yield "people"
    page.locator("#gallery-photo input[type=file]").set_input_files(portrait(0))
    page.locator(".found-head").wait_for()
    yield "found"
    page.get_by_role("button", name="Show everybody").click()
    if page.locator("#gallery-actions .for-mouse").is_visible():
        page.locator("#gallery-actions input[type=file]").set_input_files(people_folder(folder))
        page.get_by_role("button", name="Enroll 4 photos").wait_for()
        yield "folder"
        page.keyboard.press("Escape")
    page.locator(".person").first.click()
    page.locator("dialog .entries li").first.wait_for()
    yield "person"
    page.get_by_role("button", name="Delete this person").click()
    yield "question"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#gallery-intake input[type=file]").set_input_files([portrait(8)])
    page.locator("dialog .staged li").wait_for()
    yield "enrolment"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="About").click()
    yield "about"
    page.keyboard.press("Escape")
    shown.refusals |= {"400", "415"}
    page.get_by_role("tab", name="Look").click()
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
    page.locator("#look-intake input[type=file]").set_input_files(broken)
    page.locator("#look-error .error").wait_for()
    yield "error"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_every_text_can_be_read_and_nothing_is_too_wide(
    scheme: str, size: tuple[int, int], chromium: Any, gallery: Server, tmp_path: Path
) -> None:
    crowd(gallery)
    gallery.enrol("A name that is as long as names can be: " + "n" * 120, portrait(7, name="f" * 150 + ".png"))
    with tab(chromium, gallery.address, size, scheme) as shown:
        for state in every_state(shown, gallery, tmp_path / "people"):
            contrasts = shown.page.evaluate(CONTRASTS)
            assert len(contrasts) > 3, state
            assert [(state, *low) for low in contrasts if low[1] < low[2]] == []
            assert (state, shown.width()) == (state, size[0])


@pytest.mark.slow
def test_a_person_is_enrolled_and_deleted_by_keyboard(chromium: Any, gallery: Server) -> None:
    with tab(chromium, gallery.address, path="#gallery") as shown:
        page, keys = shown.page, shown.page.keyboard
        page.on("filechooser", lambda chooser: None)  # from now on they are caught, not from when one is expected
        page.get_by_role("button", name="Enroll a person").focus()
        keys.press("Enter")
        assert page.evaluate("document.activeElement.id") == "enrol-name"
        keys.type("Ann")
        keys.press("Tab")
        with page.expect_file_chooser() as chosen:
            keys.press("Enter")
        chosen.value.set_files(portrait(0))
        page.get_by_role("button", name="Enroll 1 photo").wait_for()
        page.get_by_label("Name", exact=True).focus()
        keys.press("Enter")
        page.get_by_role("button", name="Done").wait_for()
        assert page.evaluate("document.activeElement.innerText") == "Done"
        keys.press("Enter")
        page.locator(".person").focus()
        keys.press("Enter")
        page.locator("dialog .entries li").wait_for()
        page.get_by_role("button", name="Delete this person").focus()
        keys.press("Enter")
        keys.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Cancel"
        keys.press("Tab")
        keys.press("Enter")
        page.get_by_text("The gallery is empty").wait_for()
        assert gallery.people() == {}
        assert page.evaluate("document.activeElement.id") == "gallery"
