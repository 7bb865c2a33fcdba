"""The page in a real browser, of a server without a gallery: look, compare, by keyboard, on a phone, what fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fixtures.browsing import PAYLOADS, PHONE, WIDE, Tab, browser, photo, portrait, tab
from fixtures.page_servers import GROUP, LIMITS, TOKEN, Serve, with_classes


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def plain(serving: Serve) -> Iterator[str]:
    with with_classes(serving) as server:
        yield server.address


def test_what_a_server_cannot_do_is_not_shown(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        assert shown.page.get_by_role("tab").all_inner_texts() == ["Look", "Compare"]
        assert shown.page.locator("h1:visible").inner_text() == "Which class is it?"


def test_a_classifier_names_a_photo_and_shows_where_it_saw_that(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        likeliest = shown.look(portrait(0, name=PAYLOADS[0]))
        names = shown.page.locator(".class-name").all_inner_texts()
        assert sorted(names) == sorted(PAYLOADS[:3]) and names[0] == likeliest
        shares = [float(words.split()[-2]) for words in shown.page.locator(".class-share").all_inner_texts()]
        assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) < 0.3
        shown.page.get_by_role("button", name=f"Why {names[1]}?").click()
        assert names[1] in shown.page.locator(".heat figcaption").inner_text()
        assert shown.page.locator(".heat img:visible").evaluate("picture => picture.naturalWidth") >= 40
        assert shown.page.locator("#look-caption").inner_text() == PAYLOADS[0]


def test_two_photos_the_verdict_where_it_stands_and_why(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        page = shown.page
        assert shown.compare(portrait(0), portrait(0, name=PAYLOADS[1])) == "Match"
        words = page.locator(".verdict-words").inner_text()
        for said in (
            "Score 1.0000, at or above the threshold 0.88",
            "Of 50 impostor pairs none scored this high; of 50 genuine pairs",
            "1 of 50 (2.0 %, 95 % interval 0.1 to 10.6) impostor pairs",
            "Measured on drawn pairs <b>bold</b>.",
        ):
            assert said in words
        assert "This pair has 1.0000." in page.locator(".chart svg").get_attribute("aria-label")
        lines = [page.locator(f".chart line.{name}").bounding_box()["x"] for name in ("threshold", "score")]
        assert lines == sorted(lines)
        page.get_by_role("button", name="Why?").click()
        page.locator(".heat img:visible").nth(1).wait_for()
        page.get_by_label("Show the heat").uncheck()
        shows = page.locator(".heat img:visible").evaluate_all("pictures => pictures.map((picture) => picture.alt)")
        assert shows == [f"{name} as the network is shown it" for name in ("person-0-0.png", PAYLOADS[1])]


@pytest.mark.slow
def test_other_people_and_two_photos_in_one_place(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        shown.page.get_by_role("tab", name="Compare").click()
        both = [portrait(0), portrait(3, 1)]
        shown.page.locator("#compare input[type=file]").first.set_input_files(both)
        shown.page.locator(".verdict", has_text="No match").wait_for()
        assert "below the threshold" in shown.page.locator(".verdict-words").inner_text()
        assert "impostor" in shown.page.locator(".legend").inner_text()


@pytest.mark.slow
def test_of_several_faces_the_one_that_was_taken_is_outlined_and_may_be_another(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        page = shown.page
        shown.compare(photo(GROUP, "group.png"), portrait(0))
        said = page.locator(".slot-words").first
        assert "3 faces; took the one nearest to the centre" in said.inner_text()
        boxes = [page.locator("#compare .box").first.bounding_box()]
        assert page.get_by_role("button", name="Why?").count() == 1
        page.get_by_label("If there are several faces, use the one").select_option("largest")
        said.get_by_text("3 faces; took the largest").wait_for()
        boxes.append(page.locator("#compare .box").first.bounding_box())
        assert boxes[0]["x"] != boxes[1]["x"] and boxes[0]["width"] < boxes[1]["width"]
        assert page.get_by_role("button", name="Why?").count() == 1  # of the face that was taken


# Each row: what is done to the request, what the page says, whether the same may be tried again.
FAILURES = {
    "no picture": (None, "photo.png: ", False),
    "busy": ({"status": 503, "json": {"error": {"code": "busy", "message": "too many <b>"}}}, "too many <b>", True),
    "no JSON": ({"status": 502, "body": "<html>"}, "The server answered 502 and said no more.", False),
    "gone": ("abort", "The server does not answer. Is it still running?", True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_said_in_one_line(name: str, chromium: Any, plain: str) -> None:
    fault, expected, again = FAILURES[name]
    with tab(chromium, plain) as shown:
        page = shown.page
        shown.refusals |= {"400", "415", "503", "502", "net::ERR_FAILED"}
        file = {"name": "photo.png", "mimeType": "image/png", "buffer": b"no image"}
        if fault is not None:
            file = portrait(0)
            page.route("**/v1/predict", lambda r: r.abort() if fault == "abort" else r.fulfill(**fault))
        page.locator("#look-intake input[type=file]").set_input_files(file)
        line = page.locator("#look-error .error span")
        line.wait_for()
        assert line.inner_text().startswith(expected)
        assert page.get_by_role("button", name="Try again").count() == again
        if again:
            page.unroute("**/v1/predict")
            page.get_by_role("button", name="Try again").click()
            page.locator(".headline").wait_for()
            assert page.locator(".error:visible").count() == 0


@pytest.mark.slow
def test_only_what_is_over_the_limit_is_made_smaller_and_the_page_says_so(chromium: Any, plain: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    with tab(chromium, plain) as shown:
        shown.page.evaluate(
            """() => {
              const send = window.fetch;
              window.sent = [];
              window.fetch = (address, options) => {
                window.sent.push(...(options?.body?.getAll?.("photo") ?? []).map((file) => file.size));
                return send(address, options);
              };
            }"""
        )
        small = portrait(0)
        shown.look(small)
        assert shown.page.locator(".sent-note").count() == 0
        assert shown.page.evaluate("window.sent") == [len(small["buffer"])]
        shown.look(photo(noise))
        assert "it has 1.1 MB, this server takes 392 kB of it" in shown.page.locator(".sent-note").inner_text()
        assert len(small["buffer"]) < shown.page.evaluate("window.sent")[1] < LIMITS.bytes


@pytest.mark.slow
def test_a_turned_photo_stands_upright(chromium: Any, plain: str) -> None:
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: 600 x 400 pixels are shown as 400 x 600
    with tab(chromium, plain) as shown:
        shown.look(photo(GROUP, "turned.jpg", "JPEG", exif=turned))
        assert shown.page.locator("#look-stage .frame").evaluate("f => f.clientHeight / f.clientWidth") > 1.4


def test_by_keyboard_alone(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        page, keys = shown.page, shown.page.keyboard

        def focused() -> str:
            return str(page.evaluate("document.activeElement.innerText || document.activeElement.id")).split("\n")[0]

        keys.press("Tab")
        assert focused() == "Skip to the photos"
        keys.press("Tab")
        assert focused() == "Look"
        keys.press("ArrowRight")
        assert focused() == "Compare" and page.locator("#compare").is_visible() and page.locator("#look").is_hidden()
        keys.press("ArrowRight")  # around
        keys.press("End")
        assert focused() == "Compare" and page.evaluate("location.hash") == "#compare"
        keys.press("Home")
        assert focused() == "Look"
        keys.press("Tab")
        keys.press("Enter")
        assert page.get_by_role("dialog", name="About this server").is_visible()
        keys.press("Escape")
        assert page.get_by_role("dialog").count() == 0 and focused() == "About"
        keys.press("Tab")
        assert focused().startswith("Drop a photo here")
        outline = page.evaluate("getComputedStyle(document.activeElement).outline")
        assert "solid 3px" in outline
        with page.expect_file_chooser() as chosen:
            keys.press("Space")
        chosen.value.set_files(portrait(0))
        page.locator(".headline").wait_for()
        assert page.get_by_role("status").inner_text() == page.locator(".headline").inner_text()


def drop(shown: Tab, place: str, *files: dict[str, Any]) -> None:
    """Drop files on an element, or paste them with `place` "paste"."""
    shown.page.evaluate(
        """([place, files]) => {
          const data = new DataTransfer();
          const file = ([name, bytes]) => new File([new Uint8Array(bytes)], name, {type: "image/png"});
          files.forEach((one) => data.items.add(file(one)));
          const [target, event] = place === "paste"
            ? [document.body, new ClipboardEvent("paste", {clipboardData: data, bubbles: true})]
            : [document.querySelector(place), new DragEvent("drop", {dataTransfer: data, bubbles: true})];
          target.dispatchEvent(event);
        }""",
        [place, [[one["name"], list(one["buffer"])] for one in files]],
    )


@pytest.mark.slow
@pytest.mark.parametrize("place", ["#look .zone", "main", "footer", "paste"])
def test_photos_may_be_dropped_anywhere_or_pasted(place: str, chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        drop(shown, place, portrait(0))
        shown.page.locator(".headline").wait_for()
        assert shown.page.url.startswith(plain)


@pytest.mark.slow
def test_photos_that_were_seen_can_be_seen_again(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        for person in range(3):
            shown.look(portrait(person))
            shown.page.locator("#look-caption", has_text=f"person-{person}").wait_for()
            shown.page.locator(".working").wait_for(state="detached")
        asked = len(shown.asked)
        shown.page.get_by_role("button", name=re.compile("^person-0-0.png: ")).click()
        assert shown.page.locator("#look-caption").inner_text().startswith("person-0-0.png")
        assert not [address for address in shown.asked[asked:] if "/v1/" in address]


@pytest.mark.slow
def test_the_camera_takes_a_photo_and_is_off_afterwards(chromium: Any, plain: str) -> None:
    with tab(chromium, plain) as shown:
        page = shown.page
        page.evaluate(
            """() => {
              const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              window.tracks = [];
              navigator.mediaDevices.getUserMedia = async (wanted) => {
                const stream = await ask(wanted);
                window.tracks.push(...stream.getTracks());
                return stream;
              };
            }"""
        )
        states = "window.tracks.map((track) => track.readyState)"
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Stop the camera").click()
        page.get_by_role("button", name="Use the camera").click()
        page.locator("button:enabled", has_text="Take the photo").wait_for()
        assert page.evaluate(states)[-1] == "live"
        page.keyboard.press("Enter")
        page.locator(".headline").wait_for()
        assert page.locator("#look-caption").inner_text().startswith("camera-")
        assert set(page.evaluate(states)) == {"ended"}


@pytest.mark.slow
def test_without_its_token_the_page_asks_to_sign_in(chromium: Any, serving: Serve) -> None:
    with with_classes(serving, TOKEN) as server, tab(chromium, server.address, path=f"?token={TOKEN}") as shown:
        assert shown.page.url == f"{server.address}#look"  # the token does not stay in the address
        shown.look(portrait(0))
        shown.page.context.clear_cookies()
        shown.refusals.add("401")
        shown.page.locator("#look-intake input[type=file]").set_input_files(portrait(1))
        shown.page.get_by_role("button", name="Sign in again").click()
        shown.page.locator("#token:focus").wait_for()  # as the page puts it; a filler who is first is complained of
        shown.page.get_by_label("Token").fill(TOKEN)
        shown.page.keyboard.press("Enter")
        shown.page.locator("body[data-ready]").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, WIDE, (320, 640)])
def test_nothing_is_wider_than_the_window(size: tuple[int, int], chromium: Any, plain: str) -> None:
    with tab(chromium, plain, size) as shown:
        widths = [shown.width()]
        shown.look(photo(GROUP, "a" * 150 + ".png"))
        widths.append(shown.width())
        shown.compare(portrait(0, name="b" * 150 + ".png"), portrait(1))
        widths.append(shown.width())
        assert widths == [size[0]] * 3
