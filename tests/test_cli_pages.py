"""Pages of pairs: `jpegrad compare --html` and `jpegrad tune FOLDER --html`, and what Chromium makes of them."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jpegrad
from browser import CHROMIUM, browser
from command import Run
from corpus import inks, picture
from jpegrad.commands import beside, workers


class Page(HTMLParser):
    """Addresses of its pictures, its table cells, and whatever it would ask the network for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[tuple[str, np.ndarray, bytes | None]] = []
        self.rows: list[list[str]] = []
        self.asked: list[str] = []
        self._cell = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("src", "href"):
            address = given.get(name) or ""
            if not address.startswith(("data:", "#")) and address:
                self.asked.append(address)
        if tag == "img":
            kind, _, data = str(given["src"]).partition(";base64,")
            with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
                profile = opened.info.get("icc_profile")
                self.images.append((kind.removeprefix("data:image/"), np.array(opened), profile))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done in this process: others take seconds to start."""

    def share(
        items: list[object], work: Callable[[object], object], count: int, lost: object
    ) -> Iterator[object]:
        return map(work, items)

    monkeypatch.setattr(workers, "share", share)


def test_the_page_of_two_pictures(run: Run, png: np.ndarray) -> None:
    assert run("jpeg", "in.png", "-o", "out.jpg", "-q", 30).code == 0
    result = run("compare", "in.png", "out.jpg", "--html", "page.html", "--json")
    facts = json.loads(result.out)
    assert (result.code, facts["page"]) == (0, "page.html")
    page = Page(Path("page.html"))
    assert page.asked == [] and len(page.images) == 2
    (kind, first, _), (coded, second, _) = page.images
    assert (kind, coded) == ("png", "jpeg") and (first == png).all()
    assert (second == np.array(Image.open("out.jpg"))).all()
    rows = {row[0]: row[1:] for row in page.rows}
    sizes = [Path(name).stat().st_size for name in ("in.png", "out.jpg")]
    assert rows["bytes"] == [f"{sizes[0]:,} → {sizes[1]:,}", f"{sizes[1] / sizes[0] - 1:+.1%}"]
    assert rows["PSNR"][0] == f"{facts['psnr']:.2f}" and rows["SSIM Y"][0] == f"{facts['ssim']:.5f}"
    assert rows["SSIMULACRA2"][0] == f"{facts['ssimulacra2']:.2f}"
    assert rows["Butteraugli, 3-norm"][0] == f"{facts['butteraugli']:.3f}"
    # As the library has them.
    a, b = (np.array(Image.open(name).convert("RGB")).transpose(2, 0, 1) for name in ("in.png", "out.jpg"))
    import torch

    metric = jpegrad.metrics.Perceptual(torch.from_numpy(a))
    found = metric.report(torch.from_numpy(b))
    assert {name: value.item() for name, value in found.items()} == {name: facts[name] for name in found}
    # Written over by --force alone, and never a picture that is read.
    assert "--html: expected a new name" in run("compare", "in.png", "out.jpg", "--html", "page.html").error
    assert run("compare", "in.png", "out.jpg", "--html", "page.html", "--force").code == 0
    assert run("compare", "in.png", "out.jpg", "--html", "page.txt").code == 2


def test_a_page_shows_what_is_seen(run: Run, tmp_path: Path) -> None:
    profile = b"profile" * 40
    photo = picture(24, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save("turned.png", exif=exif, icc_profile=profile)
    upright = np.rot90(photo, -1)
    Image.fromarray(upright).save("<b>&.tif", icc_profile=profile)
    assert run("compare", "turned.png", "<b>&.tif", "--html", "page.html").code == 0
    page = Page(Path("page.html"))
    for kind, image, carried in page.images:
        assert kind == "png" and (image == upright).all() and carried == profile
    assert "<b>&" not in page.text and "&lt;b&gt;&amp;.tif" in page.text
    assert {row[0]: row[1] for row in page.rows}["PSNR"] == "infinite"
    # Inks are shown as RGB, tiny pictures have fewer figures.
    Image.fromarray(inks(5, 7), "CMYK").save("inks.jpg")
    shown = Image.open("inks.jpg").convert("RGB")
    assert run("compare", "inks.jpg", "inks.jpg", "--html", "inks.html").code == 0
    page = Page(Path("inks.html"))
    assert page.images[0][0] == "png" and (page.images[0][1] == np.array(shown)).all()
    assert "SSIMULACRA2" not in {row[0] for row in page.rows}


@pytest.mark.usefixtures("here")
def test_the_page_of_a_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(picture(24, 32 + i)).save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    call = ("tune", "in", "-o", "out", "--steps", 1, "--html", "page.html")
    result = run(*call)
    assert result.code == 1 and result.error.count("\n") == 2 and "page.html: the page" in result.out
    page = Page(Path("page.html"))
    heads, *rows, total = page.rows[:5]
    assert heads[:5] == ["file", "bytes before", "after", "change", "PSNR"]
    assert [row[0] for row in rows] == [f"in/{i}.png" for i in range(3)]
    assert total[0] == "3 files: sums, means" and len(page.images) == 6 and page.asked == []
    for column, folder in ((1, "in"), (2, "out")):
        sizes = [path.stat().st_size for path in sorted(Path(folder).glob("[0-9]*"))]
        assert [row[column] for row in (*rows, total)] == [f"{size:,}" for size in (*sizes, sum(sizes))]
    psnr = [float(row[4]) for row in rows]
    assert abs(float(total[4]) - sum(psnr) / 3) < 0.011
    assert set(re.findall(r'href="#(\w+)"', page.text)) == set(re.findall(r'id="(\w+)"', page.text))
    # What is there already is on the page too; what there is no room for has figures alone.
    (tmp_path / "in" / "broken.png").unlink()
    monkeypatch.setattr(beside, "MOST", 1)
    result = run(*call, "--force")
    assert result.code == 0
    page = Page(Path("page.html"))
    assert len(page.images) == 2 and "2 of 3 have figures alone" in page.text and len(page.rows[:5]) == 5
    assert (
        "jpegrad compare has it for two files"
        in run("tune", "in/0.png", "-o", "a.jpg", "--html", "b.html").error
    )
    assert "--html: expected a name that ends in .html" in run(*call[:-1], "in/0.png").error


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_shows_it(run: Run, tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)).save("in.png")
    assert run("jpeg", "in.png", "-o", "out.jpg", "-q", 10).code == 0
    assert run("compare", "in.png", "out.jpg", "--html", "page.html").code == 0
    first, second = (np.array(Image.open(name)).astype(int) for name in ("in.png", "out.jpg"))
    with browser(tmp_path / "profile") as window:
        for width in (1300, 400):
            for dark in (False, True):
                window.open((tmp_path / "page.html").as_uri(), width, dark=dark)
                assert window.overflow() == 0 and window.problems == []

        def shown() -> np.ndarray:
            """The pictures as they are seen, one pixel for each of theirs."""
            x, y, wide, tall = window.place(".layers")
            window.screenshot(tmp_path / "shot.png")
            top = round(y + window.run("window.scrollY"))
            seen = np.array(Image.open(tmp_path / "shot.png").convert("RGB"))[
                top : top + round(tall), round(x) : round(x + wide)
            ]
            step = round(wide) // 64
            return seen[step // 2 :: step, step // 2 :: step].astype(int)

        window.resize(1300)
        window.run("document.querySelector('input').focus()")
        window.press("Home")
        # The line itself covers the first column.
        assert (shown()[:, 1:] == second[:, 1:]).all()
        window.press("End")
        assert (shown()[:, :-1] == first[:, :-1]).all()
        window.run("document.querySelector('.apart').click()")
        apart = np.minimum(8 * abs(first - second), 255)
        assert abs(shown() - apart).max() <= 1
        assert all(asked.startswith(("data:", "file:")) for asked in window.asked)
