"""`jpegrad app`: what the form says, the views, the staircase, the files to take home, the server's bounds."""

import io
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from command import Run
from corpus import picture, pillow, tensor
from jpegrad import page
from jpegrad.app import files, views
from jpegrad.app.files import Named
from jpegrad.app.settings import Settings
from jpegrad.app.staircase import staircase, svg
from jpegrad.surrogates import ALL

PHOTO = tensor(picture(41, 53))
GRAY = PHOTO[:1]
OWN = (((3,) * 8,) * 8, ((7,) * 8,) * 8)
CODED = {
    "default": Settings(),
    "4:1:1 by shipped tables": Settings(quality=30.5, subsampling="4:1:1", tables="robidoux"),
    "own tables": Settings(subsampling="4:4:4", tables=OWN, surrogate="soft_round", width=3),
    "soft": Settings(quality=20, forward="soft", width=1.5),
}

WRONG = {
    "no object": ([], "settings: expected an object, got list"),
    "unknown": ({"size": 3}, "settings: expected .*; got 'size'"),
    "quality": ({"quality": 0}, "quality: expected 1"),
    "subsampling": ({"subsampling": "3:1:1"}, "subsampling: expected one of 4:4:4"),
    "tables": ({"tables": "mine"}, "tables: expected one of annex_k, mix"),
    "a table": ({"tables": [OWN[0]]}, "tables: expected a name or two tables"),
    "no rows": ({"tables": [1, 2]}, "tables: expected a name or two tables"),
    "an entry": ({"tables": [OWN[0], [[256] * 8] * 8]}, "tables: expected entries from 1 to 255, got 256"),
    "a fraction": ({"tables": [OWN[0], [[1.5] * 8] * 8]}, "tables: expected integers, got 1.5"),
    "surrogate": ({"surrogate": "round"}, "surrogate: expected one of identity"),
    "width of none": ({"surrogate": "cubic", "width": 1}, "width: expected with one of gaussian"),
    "width": ({"width": -1}, "width: expected a positive number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_name_what_is_wrong(name: str) -> None:
    found, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        Settings.of(found)


def test_settings_are_what_json_says() -> None:
    found = Settings.of(json.loads(json.dumps({"quality": 20, "tables": OWN, "surrogate": "cubic"})))
    assert found == Settings(quality=20, tables=OWN, surrogate="cubic")
    assert Settings.of({}) == Settings() and Settings().record == ALL["gaussian"]
    assert Settings(width=5).record == jpegrad.surrogates.gaussian(5.0)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("image", [PHOTO, GRAY], ids=["RGB", "gray"])
def test_views_say_what_the_file_is(name: str, image: torch.Tensor) -> None:
    settings = CODED[name]
    tables = settings.entries().tolist()
    # Pillow's own file, by tables and sampling.
    pixels = image.permute(1, 2, 0).numpy().squeeze()
    if settings.subsampling != "4:1:1":
        flat = [[entry for row in table for entry in row] for table in tables]
        options = {"qtables": flat[:1] if len(image) == 1 else flat}
        if len(image) == 3:
            options["subsampling"] = settings.subsampling
        assert views.file_of(image, settings)[1] == pillow(pixels, **options)
    shown = {view: views.look(image, settings, view) for view in views.VIEWS if "classifier" not in view}
    assert all(found.image.shape == (3, *image.shape[1:]) for found in shown.values())
    assert all(found.image.dtype is torch.uint8 for found in shown.values())
    data = views.file_of(image, settings)[1]
    real = np.array(Image.open(io.BytesIO(data))).reshape(*image.shape[1:], -1)
    said = {view: dict(found.facts) for view, found in shown.items()}
    exact = settings.forward == "exact"
    assert (shown["difference"].image.max() == 0) == exact
    assert said["difference"]["difference"].startswith("0 of") == exact
    if exact:
        assert (shown["coded"].image[: real.shape[2]].permute(1, 2, 0).numpy() == real).all()
        error = np.square(real.astype(float) - image.permute(1, 2, 0).numpy()).mean()
        assert said["error gradient"]["squared error"].startswith(f"{error:.4g} grey levels²")
    assert said["coded"]["file"].startswith(f"{len(data):,} bytes")
    amount = 8 * len(data)
    assert said["size gradient"]["size"].startswith(f"{amount:,} bits")
    for view in ("error gradient", "size gradient"):
        assert len(shown[view].image.unique()) > 50


def test_views_by_name_alone() -> None:
    with pytest.raises(ValueError, match=r"view: expected one of original, coded, .*; got 'seen'"):
        views.look(PHOTO, Settings(), "seen")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"])
@pytest.mark.parametrize("size", [(41, 53), (8, 8), (17, 9)])
def test_bits_of_blocks_are_those_of_the_file(subsampling: str, size: tuple[int, int]) -> None:
    for image in (PHOTO, GRAY):
        settings = Settings(quality=90, subsampling=subsampling)
        coefficients, data = views.file_of(image[:, : size[0], : size[1]], settings)
        parts = jpegrad.rate.breakdown(coefficients)
        planes = views.block_bits(coefficients)
        assert [plane.shape for plane in planes] == [level.shape[:2] for level in coefficients.levels]
        of_component = parts.coefficients.sum((-2, -1)) + parts.end_of_block
        assert [int(plane.sum()) for plane in planes] == of_component.tolist()
        rest = parts.padding + parts.stuffing + parts.headers
        assert sum(int(plane.sum()) for plane in planes) + int(rest) == 8 * len(data)


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_staircase_is_that_of_the_file(name: str) -> None:
    settings = Settings(quality=40, surrogate=name)
    coefficients, _ = views.file_of(PHOTO, settings)
    for component, place, block in ((0, (50, 33), (4, 6)), (2, (50, 33), (2, 3))):
        found = staircase(PHOTO, settings, component, place, (0, 1))
        assert found.level == int(coefficients.levels[component][block][0, 1])
        assert found.step == int(coefficients.tables[min(component, 1), 0, 1])
        assert abs(found.u - found.level) <= 0.5
        root = ElementTree.fromstring(svg(found))
        assert root.attrib["aria-label"] == found.words() and len(root.findall("path")) == 10
        if name in ("noise", "distortion"):
            # The soft function is random there; the slope is another's, by design.
            continue
        middle = (found.soft[2:] - found.soft[:-2]) / (found.places[2:] - found.places[:-2])
        # Some of the soft functions jump halfway between two levels, or their slopes do.
        smooth = (found.slope[2:] - found.slope[:-2]).abs() < 0.1
        smooth &= (found.soft[2:] - found.soft[:-2]).abs() < 0.3
        assert smooth.sum() > 20
        # A central difference over 1/100 step loses (2π · 9/100)² / 6 = 5 % of the ninth harmonic.
        error = (found.slope[1:-1][smooth] - middle[smooth]).abs().max()
        assert error < 0.06 * found.slope.abs().max().clamp(min=1)


def test_a_coefficient_that_is_not_there() -> None:
    for arguments, message in (
        ((3, (0, 0), (0, 0)), "component: expected 0 to 2, got 3"),
        ((0, (53, 0), (0, 0)), "place: expected a pixel of 53×41"),
        ((0, (0, 0), (0, 8)), "frequency: expected two numbers from 0 to 7"),
    ):
        with pytest.raises(ValueError, match=message):
            staircase(PHOTO, Settings(), *arguments)


def taken_home(named: Named, settings: Settings, folder: Path) -> None:
    """The program makes the files that the page gives."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(files.python(named, settings), "taken.py", "exec"), {"__name__": "taken"})
    finally:
        os.chdir(before)
    assert (folder / f"{named.stem}.jpg").read_bytes() == files.jpg(named, settings)
    (folder / "page.json").write_bytes(files.tables(named, settings))
    made, given = (jpegrad.tables.load(folder / name) for name in (f"{named.stem}.json", "page.json"))
    assert (made == given).all()


@pytest.mark.parametrize("name", CODED)
def test_the_program_makes_the_same_files(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taken_home(Named("caps", jpegrad.data.photograph("caps"), bundled=True), CODED[name], tmp_path)
    assert capsys.readouterr().out.endswith("on average\n")


@pytest.mark.parametrize("kind", ["turned", "gray", "coded", "quoted"])
def test_the_program_reads_the_users_picture(tmp_path: Path, kind: str) -> None:
    from jpegrad.app.server import App

    name = {"quoted": "my 'own' \\ ü.png", "coded": "mine.jpg"}.get(kind, "mine.png")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = Image.fromarray(picture(24, 40)[..., 0] if kind == "gray" else picture(24, 40))
    shown.save(buffer, "JPEG" if kind == "coded" else "PNG", exif=exif if kind == "turned" else Image.Exif())
    (tmp_path / name).write_bytes(buffer.getvalue())
    app = App()
    found = app._take(name, buffer.getvalue())
    assert (found["width"], found["height"]) == ((24, 40) if kind == "turned" else (40, 24))
    taken_home(app._picture(found["id"]), Settings(), tmp_path)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A running server."""
    import uvicorn

    from jpegrad.app import server

    listening = server.listen(0)
    running = uvicorn.Server(uvicorn.Config(server.application(), log_level="critical"))
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join()


def send(
    url: str, data: object = None, kind: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer."""
    body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
    kind = kind or ("application/octet-stream" if isinstance(data, bytes) else "application/json")
    request = urllib.request.Request(url, body, {"Content-Type": kind, **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_pictures_are_sent_with_the_effort_that_is_asked_for() -> None:
    image = torch.arange(3 * 64 * 64).reshape(3, 64, 64).byte()
    fast, small = (page.png(image, effort=effort) for effort in (0, 9))
    assert len(fast) > image.numel() > len(small)
    for data in (fast, small):
        assert np.array_equal(np.array(Image.open(io.BytesIO(data))), image.permute(1, 2, 0).numpy())


def test_the_server_answers(address: str) -> None:
    status, body, headers = send(f"{address}/")
    assert status == 200 and b"<title>jpegrad</title>" in body
    assert "default-src 'none'" in headers["content-security-policy"]
    for name in ("app.js", "app.css", "slider.js", "style.css"):
        assert send(f"{address}/{name}")[0] == 200
        assert b"://" not in send(f"{address}/{name}")[1]
    offered = json.loads(send(f"{address}/choices")[1])
    assert set(offered["surrogate"]) == set(ALL) and "tulips" in offered["pictures"]
    settings: dict[str, object] = {"quality": 35, "width": 0.1}
    status, body, _ = send(f"{address}/look", {"picture": "caps", "settings": settings, "view": "coded"})
    found = json.loads(body)
    assert status == 200 and found["image"].startswith("data:image/png;base64,")
    assert "sigma: 0.1 grey levels" in found["warnings"][0]
    assert torch.tensor(found["tables"]).equal(jpegrad.tables.annex_k(35).long())
    about = {"picture": "caps", "component": 1, "place": [10, 20], "frequency": [0, 0]}
    assert json.loads(send(f"{address}/staircase", about)[1])["words"].startswith("Cb: coefficient")
    settings.pop("width")
    query = urllib.parse.urlencode({"picture": "caps", "settings": json.dumps(settings)})
    status, body, headers = send(f"{address}/download/jpg?{query}")
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''caps.jpg"
    assert body == files.jpg(Named("caps", jpegrad.data.photograph("caps"), True), Settings.of(settings))


def test_the_server_has_bounds(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from jpegrad.app import server

    def said(answer: tuple[int, bytes, dict[str, str]]) -> tuple[int, str]:
        return answer[0], json.loads(answer[1])["error"]

    upload = f"{address}/pictures?name=a.png"
    large = io.BytesIO()
    Image.new("L", (2001, 2000)).save(large, "PNG")
    status, message = said(send(upload, large.getvalue()))
    assert (status, message) == (400, "picture: expected at most 4 megapixels, got 2001×2000, 4.0 megapixels")
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    assert said(send(upload, b"x" * 1001)) == (413, "picture: expected a file of at most 1,000 bytes")
    assert said(send(upload, b"no picture")) == (400, "picture: expected one that Pillow can open")
    clear = io.BytesIO()
    Image.new("RGBA", (9, 9)).save(clear, "PNG")
    assert "transparency" in said(send(upload, clear.getvalue()))[1]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert send(upload, clear.getvalue(), kind)[0] == 415
        assert send(f"{address}/look", {"picture": "caps"}, kind)[0] == 415
    assert said(send(f"{address}/look", {"picture": "0" * 16}))[1].startswith("picture: expected a sample")
    assert said(send(f"{address}/look", {"picture": "caps", "view": "x"}))[0] == 400
    assert said(send(f"{address}/look", ["caps"]))[1] == "request: expected an object, got list"
    assert said(send(f"{address}/staircase", {"picture": "caps"}))[0] == 400
    assert said(send(f"{address}/download/exe?picture=caps"))[0] == 404
    # A name that another site gives this machine is not answered.
    assert send(f"{address}/", Host="evil.example")[0] == 400
    small = io.BytesIO()
    Image.new("L", (9, 9)).save(small, "PNG")
    first = json.loads(send(upload, small.getvalue())[1])["id"]
    for i in range(server.KEPT):
        assert send(f"{upload}{i}", small.getvalue())[0] == 200
    assert said(send(f"{address}/look", {"picture": first}))[0] == 400


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("app", "--no-browser", "--port", port)
    assert result.code == 1 and result.error.startswith(f"error: --port: expected a free one, got {port}")
    assert run("app", "--port", 70000).code == 2


def test_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jpegrad.app.server", raising=False)
    monkeypatch.delattr(jpegrad.app, "server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("app", "--no-browser")
    assert (result.code, result.out) == (1, "")
    assert result.error == "error: the page needs the package uvicorn: pip install 'jpegrad[app]'\n"
