"""The page's server, on 127.0.0.1 alone: what the browser asks for, within bounds, one computation at a time."""

import hashlib
import io
import json
import socket
import threading
import warnings
import webbrowser
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import uvicorn
from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jpegrad import __version__, page, surrogates
from jpegrad.app import classifier, files
from jpegrad.app.files import Named
from jpegrad.app.settings import ANNEX_K, WIDTHS, Settings
from jpegrad.app.staircase import staircase, svg
from jpegrad.app.views import VIEWS, look
from jpegrad.data import photograph, photograph_names, table_names
from jpegrad.pictures import load
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import FORWARDS

FOLDER = Path(__file__).parent
HOST = "127.0.0.1"
MOST_BYTES, MOST_PIXELS = 20_000_000, 4_000_000
"""Of an uploaded file, and of the picture in it."""
KEPT = 8
"""Uploaded pictures that are remembered."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
Result = TypeVar("Result")


class App:
    """The answers, and the pictures that were uploaded."""

    def __init__(self) -> None:
        self._uploaded: OrderedDict[str, Named] = OrderedDict()
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Every address."""
        static = {"/": "page.html", "/app.css": "app.css", "/app.js": "app.js"}
        return [
            *(Route(address, _file(FOLDER / name)) for address, name in static.items()),
            *(Route(f"/{name}", _file(page.FOLDER / name)) for name in ("style.css", "slider.js")),
            Route("/choices", lambda request: _json(choices())),
            Route("/pictures", self.upload, methods=["POST"]),
            Route("/look", self.look, methods=["POST"]),
            Route("/staircase", self.staircase, methods=["POST"]),
            Route("/download/{kind}", self.download),
        ]

    async def upload(self, request: Request) -> Response:
        """Take a picture's file."""
        # A type that no form has: another site's page cannot send it without asking first.
        if request.headers.get("content-type") != "application/octet-stream":
            return _error("expected a file as application/octet-stream", 415)
        data = await _body(request, MOST_BYTES)
        if data is None:
            return _error(f"picture: expected a file of at most {MOST_BYTES:,} bytes", 413)
        name = request.query_params.get("name", "picture")
        return await self._answer(lambda: self._take(name, data))

    async def look(self, request: Request) -> Response:
        """A view of a picture as some settings code it."""
        return await self._asked(request, self._look)

    async def staircase(self, request: Request) -> Response:
        """A coefficient's staircase."""
        return await self._asked(request, self._staircase)

    async def download(self, request: Request) -> Response:
        """A file to take home; the address has the picture and the settings."""
        kind = request.path_params["kind"]
        if kind not in files.FILES:
            return _error(f"download: expected one of {', '.join(files.FILES)}; got {kind}", 404)
        make, media = files.FILES[kind]

        def made() -> Response:
            picture = self._picture(request.query_params.get("picture", ""))
            data = make(picture, Settings.of(json.loads(request.query_params.get("settings", "{}"))))
            name = quote(f"{picture.stem}.{kind}")
            attachment = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
            return Response(data, media_type=media, headers={**HEADERS, **attachment})

        return await self._guarded(made)

    async def _asked(self, request: Request, work: Callable[[Named, Settings, Any], Any]) -> Response:
        """What ``work`` makes of the JSON object of a request."""
        if request.headers.get("content-type") != "application/json":
            return _error("expected application/json", 415)
        data = await _body(request, 100_000)
        if data is None:
            return _error("expected at most 100,000 bytes", 413)

        def work_on() -> Any:
            asked = json.loads(data)
            if not isinstance(asked, dict):
                raise TypeError(f"request: expected an object, got {type(asked).__name__}")
            settings = Settings.of(asked.get("settings", {}))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = work(self._picture(asked.get("picture", "")), settings, asked)
            return {**found, "warnings": [str(each.message) for each in caught]}

        return await self._answer(work_on)

    async def _answer(self, work: Callable[[], Any]) -> Response:
        return await self._guarded(lambda: _json(work()))

    async def _guarded(self, work: Callable[[], Response]) -> Response:
        """One at a time, because each takes all cores; what a user may have done wrong is told."""

        def locked() -> Response:
            with self._lock, warnings.catch_warnings():
                # The page tells them, not the terminal.
                warnings.simplefilter("ignore")
                return work()

        try:
            return await run_in_threadpool(locked)
        except (ValueError, TypeError, KeyError) as error:
            return _error(" ".join(str(error).split()), 400)

    def _take(self, name: str, data: bytes) -> dict[str, Any]:
        _check_size(data)
        picture = load(Path(name), data=data, upright=True)
        key = hashlib.sha256(data + name.encode()).hexdigest()[:16]
        self._uploaded[key] = Named(name, picture.pixels, bundled=False)
        self._uploaded.move_to_end(key)
        while len(self._uploaded) > KEPT:
            self._uploaded.popitem(last=False)
        channels, height, width = picture.pixels.shape
        return {"id": key, "name": name, "width": width, "height": height, "gray": channels == 1}

    def _picture(self, key: str) -> Named:
        if key in photograph_names():
            return Named(key, photograph(key), bundled=True)
        if key not in self._uploaded:
            raise ValueError(
                "picture: expected a sample or an uploaded one; this is forgotten: open it again"
            )
        return self._uploaded[key]

    def _look(self, picture: Named, settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
        view = look(picture.pixels, settings, asked.get("view", "coded"))
        return {
            # It travels no further than this machine.
            "image": page.data_url(page.png(view.image, effort=1)),
            "facts": view.facts,
            "tables": settings.entries().tolist(),
            "gray": len(picture.pixels) == 1,
        }

    def _staircase(self, picture: Named, settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
        (x, y), (v, h) = asked["place"], asked["frequency"]
        found = staircase(
            picture.pixels, settings, int(asked["component"]), (int(x), int(y)), (int(v), int(h))
        )
        return {"svg": svg(found), "words": found.words()}


def choices() -> dict[str, Any]:
    """What the form offers."""
    return {
        "version": __version__,
        "pictures": photograph_names(),
        "subsampling": list(SUBSAMPLING),
        "tables": [ANNEX_K, *table_names()],
        "forward": FORWARDS,
        "surrogate": {name: record.source for name, record in surrogates.ALL.items()},
        "widths": WIDTHS,
        "views": [name for name in VIEWS if classifier.available() or not name.startswith("classifier")],
        "most": {"bytes": MOST_BYTES, "pixels": MOST_PIXELS},
    }


def application() -> Starlette:
    """The server's application. It answers to its own name alone, so that no other site's can stand for it."""
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=App().routes(), middleware=[hosts])


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 is any that is free.

    Raises:
        OSError: the port is taken.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise OSError(f"--port: expected a free one, got {port}: {error.strerror}") from None
    return found


def serve(listening: socket.socket, browse: bool) -> None:
    """Answer until Ctrl-C."""
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    if browse:
        # It asks only after this thread answers.
        threading.Timer(0.5, webbrowser.open, [address]).start()
    uvicorn.Server(
        uvicorn.Config(application(), log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    ).run([listening])


def _check_size(data: bytes) -> None:
    """Raise for a picture that is too large, before its pixels are decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise ValueError("picture: expected one that Pillow can open") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"picture: {error}") from None
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"picture: expected at most {MOST_PIXELS / 1e6:g} megapixels, got {width}×{height}, "
            f"{width * height / 1e6:.1f} megapixels"
        )


async def _body(request: Request, most: int) -> bytes | None:
    """The bytes of a request; None of one with more than ``most``, of which no more are read."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            return None
    return bytes(data)


def _file(path: Any) -> Callable[[Request], Response]:
    data, media = path.read_bytes(), TYPES[Path(path.name).suffix]
    return lambda request: Response(data, media_type=media, headers=HEADERS)


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=HEADERS)


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=HEADERS)
