"""Chromium without a window, over the pipe of its DevTools protocol; no package is needed for it."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")


class Browser:
    """One page. ``problems`` are exceptions and errors of its console, ``asked`` every address that it asked for."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer, self._number, self._session = b"", 0, ""
        self.problems: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                received = os.read(self._receive, 1 << 20)
                assert received, "the browser has ended"
                self._buffer += received
            line, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer.get("method"), answer.get("params"))

    def _note(self, event: str, about: Any) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(str(about["exceptionDetails"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of an expression on the page, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The first value of an expression that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"{script} is not true after {seconds} s"
            time.sleep(0.05)
        return found

    def open(self, address: str, width: int = 1300, height: int = 900, dark: bool = False) -> None:
        """Go to a page in a window of that size, and wait until it is loaded."""
        self.resize(width, height, dark)
        self.call("Page.navigate", url=address)
        self.wait(
            f"document.readyState == 'complete' && location.href.startsWith({json.dumps(address[:80])})"
        )

    def resize(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Another size, and light or dark."""
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, times: int = 1) -> None:
        """A key, by its name, where the focus is."""
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        name = " " if key == "Space" else key
        code = {"Tab": 9, "Enter": 13, "Space": 32, "End": 35, "Home": 36} | {
            f"Arrow{way}": 37 + i for i, way in enumerate(("Left", "Up", "Right", "Down"))
        }
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                more = {"text": text} if text and kind == "keyDown" else {}
                number = code.get(key, ord(key[0].upper()))
                self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=number, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The pointer from one place of the window to another, with the button down."""
        for kind, (x, y), buttons in (
            ("mousePressed", start, 1),
            ("mouseMoved", end, 1),
            ("mouseReleased", end, 0),
        ):
            button = "left" if kind != "mouseMoved" else "none"
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1
            )

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, which is scrolled to it."""
        return tuple(
            self.run(
                f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
                "found.scrollIntoView({block: 'center'});"
                "const box = found.getBoundingClientRect(); return [box.x, box.y, box.width, box.height] })()"
            )
        )

    def screenshot(self, path: Path) -> None:
        """All of the page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser whose profile is a new folder."""
    assert CHROMIUM is not None
    to_read, send = os.pipe()
    receive, to_write = os.pipe()

    def place() -> None:
        # The protocol is spoken on descriptors 3 and 4.
        os.dup2(to_read, 3)
        os.dup2(to_write, 4)

    # Copied first, so that neither stands where the other has to go.
    to_read, to_write = _high(to_read), _high(to_write)
    start: Callable[[], None] = place
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=start,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        found = Browser(send, receive)
        yield found
        found._session = ""
        found.call("Browser.close")
        process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(send)
        os.close(receive)


def _high(descriptor: int) -> int:
    found = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    os.set_inheritable(found, True)
    return found
