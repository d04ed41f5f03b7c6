"""A page in headless Chromium, driven over its own debugging pipe: no driver, no port, no further package."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb --remote-debugging-pipe "
    "--disable-renderer-backgrounding"
)
_COLOURS = 160
"""Of a picture for the documents, which is an indexed PNG."""


def chromium() -> str | None:
    """The browser's path, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab. Its methods wait for what they ask about, and raise TimeoutError where it does not come."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._number, self._buffer = read, write, 0, b""
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.errors: list[str] = []
        """What the page reported as exceptions."""
        self._call("Page.enable")
        self._call("Runtime.enable")
        # The App greets who comes for the first time.
        greeting = "localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')"
        self._call("Page.addScriptToEvaluateOnNewDocument", source=f"try {{ {greeting} }} catch (e) {{}}")

    def open(self, address: str) -> None:
        """Go there."""
        self._call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON has it."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", expression))
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60) -> Any:
        """The value of the expression as soon as it is true."""
        end = time.monotonic() + seconds
        while True:
            if value := self.evaluate(expression):
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is not true after {seconds} s; the page reads: {self.text()[:1500]}")
            time.sleep(0.2)

    def wait_for_text(self, text: str, seconds: float = 60) -> None:
        """Until that text can be read somewhere."""
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})", seconds)

    def text(self) -> str:
        """All that can be read."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def click(self, text: str, within: str = "body", seconds: float = 60) -> None:
        """Click the smallest thing below `within` that reads `text` (or is called that), as a mouse does."""
        find = f"""(() => {{
            const wanted = {json.dumps(text)};
            const reads = e => [e.innerText, e.title, e.placeholder, e.getAttribute('aria-label')]
                .some(t => t && t.trim() === wanted);
            const found = [...document.querySelectorAll({json.dumps(within)} + ' *')]
                .filter(e => reads(e) && e.getClientRects().length);
            if (!found.length) return null;
            found[found.length - 1].scrollIntoView({{block: 'nearest', inline: 'nearest'}});
            const box = found[found.length - 1].getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.click_at(*self.wait_for(find, seconds))

    def click_on(self, selector: str, seconds: float = 60) -> None:
        """Click the first element of a CSS selector."""
        find = f"""(() => {{
            const found = document.querySelector({json.dumps(selector)});
            if (!found || !found.getClientRects().length) return null;
            found.scrollIntoView({{block: 'nearest', inline: 'nearest'}});
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.click_at(*self.wait_for(find, seconds))

    def click_at(self, x: float, y: float) -> None:
        """Click that point of the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release a key, such as "Escape"."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            extra = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)

    def picture(self) -> Image.Image:
        """What the window shows."""
        data = self._call("Page.captureScreenshot", format="png")["data"]
        return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")

    def wait_until_still(self, part: tuple[slice, ...], seconds: float = 60) -> None:
        """Until that part of the picture (rows, columns) has not changed for two seconds."""
        end, last, since = time.monotonic() + seconds, b"", time.monotonic()
        while time.monotonic() - since < 2:
            now = np.asarray(self.picture())[part].tobytes()
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() > end:
                raise TimeoutError(f"the picture still changes after {seconds} s")
            time.sleep(0.5)

    def save_picture(self, path: Path) -> None:
        """The same as a small PNG."""
        self.picture().quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], seconds)[0]:
                raise TimeoutError("the browser does not answer")
            if not (data := os.read(self._read, 1 << 20)):
                raise RuntimeError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@contextlib.contextmanager
def browser(width: int = 1400, height: int = 860) -> Iterator[Page]:
    """A page of a new browser, whose profile is gone afterwards."""
    path = chromium()
    assert path, "no browser"
    commands, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        process = _start(
            [path, *_FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"],
            commands[0],
            answers[1],
        )
        os.close(commands[0])
        os.close(answers[1])
        try:
            yield Page(answers[0], commands[1])
        finally:
            os.close(commands[1])
            process.terminate()
            process.wait(timeout=30)
            os.close(answers[0])


def _start(command: list[str], read: int, write: int) -> "subprocess.Popen[bytes]":
    """The browser reads commands from its descriptor 3 and answers on 4."""
    shell = f'exec "$@" 3<&{read} 4>&{write}'
    return subprocess.Popen(
        ["/bin/bash", "-c", shell, "browser", *command],
        pass_fds=(read, write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
