"""`jpegrad app` as a user has it: its process, and Chromium."""

import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jpegrad
from browser import CHROMIUM, Browser, browser
from corpus import picture
from jpegrad.app.files import Named, jpg
from jpegrad.app.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
READY = "!document.body.hasAttribute('aria-busy') && !!document.querySelector('#drawing svg')"
PORTRAIT = Named("portrait", jpegrad.data.photograph("portrait"), bundled=True)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page of a process of its own, which ends by Ctrl-C."""
    command = "from _jpegrad_command import main; main()"
    call = [sys.executable, "-c", command, "app", "--no-browser", "--port", "0"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.send_signal(2)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(window: Browser, address: str) -> Iterator[Browser]:
    """The page of the portrait, ready; whatever it does, it asks this machine alone, and nothing goes wrong."""
    window.problems.clear()
    window.asked.clear()
    window.open(address)
    window.wait(READY)
    set_to(window, "[name=picture]", "portrait")
    yield window
    assert all(asked.startswith((address, "data:")) for asked in window.asked)
    assert window.problems == []


def set_to(page: Browser, selector: str, value: str) -> None:
    """As a user changes a field."""
    event = "dispatchEvent(new Event('input', { bubbles: true }))"
    field = f"document.querySelector({json.dumps(selector)})"
    page.run(f"(() => {{ {field}.value = {json.dumps(value)}; {field}.{event} }})()")
    settle(page)


def settle(page: Browser) -> None:
    # What a user does is sent after a short wait.
    time.sleep(0.15)
    page.wait(READY)


def shown(page: Browser, which: str = "first") -> np.ndarray:
    """The pixels of a picture on the page."""
    url = page.run(f"document.querySelector('.{which}').src")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def text(page: Browser, selector: str) -> str:
    return page.run(f"document.querySelector({json.dumps(selector)}).innerText")


def real(settings: Settings) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(jpg(PORTRAIT, settings))))


def test_every_view_and_choice(page: Browser) -> None:
    assert (shown(page) == real(Settings())).all()
    assert f"{len(jpg(PORTRAIT, Settings())):,} bytes" in text(page, "#facts")
    set_to(page, "[name=subsampling]", "4:4:4")
    set_to(page, "[name=tables]", "mse")
    set_to(page, "[name=quality]", "30")
    settings = Settings(quality=30, subsampling="4:4:4", tables="mse")
    assert (shown(page) == real(settings)).all()
    set_to(page, "[name=view]", "difference")
    assert shown(page).max() == 0 and "0 of 230,400 samples differ" in text(page, "#facts")
    set_to(page, "[name=forward]", "soft")
    assert shown(page).max() > 50 and "0 of 230,400" not in text(page, "#facts")
    set_to(page, "[name=forward]", "exact")
    pictures = []
    for view in json.loads(page.run("JSON.stringify(choices.views)")):
        set_to(page, "[name=view]", view)
        pictures.append(shown(page).tobytes())
    assert len(set(pictures)) == len(pictures) >= 6
    set_to(page, "[name=surrogate]", "soft_round")
    assert "NeurIPS 2020" in text(page, "#source")
    drawn = page.run("document.querySelector('#drawing').innerHTML")
    set_to(page, "[name=width]", "2.5")
    assert page.run("document.querySelector('#drawing').innerHTML") != drawn
    set_to(page, "[name=width]", "0")
    assert text(page, "#message") == "Expected a width above 0, got 0."


def test_by_the_keyboard(page: Browser) -> None:
    page.run("document.querySelector('[name=slide]').focus()")
    page.press("ArrowLeft", 10)
    settle(page)
    assert (shown(page) == real(Settings(quality=40))).all()
    # The table: one stop of the Tab key, arrows within, a number and Enter.
    page.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    page.press("ArrowDown", 2)
    page.press("ArrowRight")
    assert page.run("document.activeElement.ariaLabel") == "row 2, column 2"
    for digit in "99":
        page.press(digit)
    page.press("Enter")
    settle(page)
    entries = Settings(quality=40).entries()
    entries[0, 2, 2] = 99
    own = Settings(tables=tuple(tuple(tuple(row) for row in table) for table in entries.tolist()))  # type: ignore[arg-type]
    assert (shown(page) == real(own)).all() and page.run("form.elements.tables.value") == "your own"
    assert page.run("form.elements.quality.disabled")
    assert "steps of 99" in text(page, "#words")
    for digit in "999":
        page.press(digit)
    page.press("Enter")
    assert text(page, "#message") == "Expected an entry from 1 to 255, got 999."
    # The block, on the picture.
    before = text(page, "#words")
    page.run("document.querySelector('.layers').focus()")
    page.press("ArrowDown", 9)
    page.press("ArrowRight", 11)
    settle(page)
    assert page.run("JSON.stringify(place)") == "[88,72]" and text(page, "#words") != before
    # Every stop of the Tab key has a name that is read out.
    page.run("document.activeElement.blur()")
    seen = set()
    for _ in range(40):
        page.press("Tab")
        named = page.run(
            "(() => { const e = document.activeElement;"
            "return e === document.body ? 'body' : e.ariaLabel || e.innerText || "
            "[...(e.labels || [])].map((label) => label.innerText).join() })()"
        )
        assert named
        seen.add(named)
    assert len(seen) > 12


def test_two_settings_under_a_slider(page: Browser) -> None:
    page.run("document.querySelector('[name=compare]').click()")
    settle(page)
    assert (shown(page, "second") == real(Settings(quality=20))).all()
    page.run("document.querySelector('[name=side][value=b]').click()")
    set_to(page, "[name=quality]", "5")
    assert (shown(page, "first") == real(Settings())).all()
    assert (shown(page, "second") == real(Settings(quality=5))).all()
    assert text(page, "#right").startswith("coded, q 5")
    x, y, width, height = page.place(".layers")
    page.drag((x + width / 2, y + height / 2), (x + width / 4, y + height / 2))
    assert page.run("document.querySelector('.slider > input').value") == "25"
    page.run("document.querySelector('.slider > input').focus()")
    page.press("Home")
    assert page.run("getComputedStyle(document.querySelector('.second')).clipPath") == "inset(0px 0px 0px 0%)"
    page.run("document.querySelector('.apart').click()")
    assert page.run("getComputedStyle(document.querySelector('.second')).mixBlendMode") == "difference"


def test_a_picture_of_ones_own_and_the_files(page: Browser, tmp_path: Path) -> None:
    mine = picture(40, 64)
    Image.fromarray(mine).save(tmp_path / "mine.png")
    upload(page, tmp_path / "mine.png")
    assert (
        shown(page).shape == mine.shape
        and page.run("form.elements.picture.selectedOptions[0].text") == "mine.png (64×40)"
    )
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
    for kind in ("jpg", "json", "py"):
        page.run(f"document.querySelector('a[data-kind={kind}]').click()")
        end = time.monotonic() + 30
        while not (tmp_path / "down" / f"mine.{kind}").is_file() and time.monotonic() < end:
            time.sleep(0.05)
    expected = io.BytesIO()
    Image.fromarray(mine).save(expected, "JPEG", quality=50)
    assert (tmp_path / "down" / "mine.jpg").read_bytes() == expected.getvalue()
    tables = jpegrad.tables.load(tmp_path / "down" / "mine.json")
    assert (tables == jpegrad.tables.annex_k(50)).all()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = subprocess.run(
        [sys.executable, "down/mine.py"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert (tmp_path / "mine.jpg").read_bytes() == expected.getvalue() and made.stderr == b""
    (tmp_path / "no.png").write_bytes(b"no picture")
    upload(page, tmp_path / "no.png")
    assert text(page, "#message") == "picture: expected one that Pillow can open"
    page.problems.clear()
    (tmp_path / "large.png").write_bytes(bytes(20_000_001))
    upload(page, tmp_path / "large.png")
    assert text(page, "#message").startswith("picture: expected a file of at most 20,000,000 bytes")


def upload(page: Browser, path: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="[name=file]")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(path)])
    settle(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1300, 400])
def test_it_fits(page: Browser, width: int, dark: bool, tmp_path: Path) -> None:
    page.resize(width, dark=dark)
    page.run("document.querySelector('[name=compare]').click()")
    settle(page)
    assert page.overflow() == 0
    # Every button and field is large enough to be met by a finger.
    small = page.run(
        "[...document.querySelectorAll('button, select, a.button, #grid input')].filter((e) => e.checkVisibility())"
        ".map((e) => e.getBoundingClientRect()).filter((b) => b.height < 24 || b.width < 24).length"
    )
    assert small == 0
    page.screenshot(tmp_path / "page.png")
    seen = np.array(Image.open(tmp_path / "page.png").convert("L"))
    assert (seen[:5].mean() < 60) == dark
