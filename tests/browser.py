"""A headless Chromium under test, driven over its own protocol (CDP)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from launched import until
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses root otherwise
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm is for our rings
    "--no-first-run",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)


def find_browser() -> str | None:
    """RT_BROWSER, or the first that is installed."""
    return os.environ.get("RT_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of it."""

    def __init__(self, program: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that all of its processes can be ended
        )
        self._opened = ExitStack()
        self.complaints: list[str] = []  # of the page: errors, and what it was not let do
        try:
            said = folder / "DevToolsActivePort"
            until("the browser", lambda: said.exists() and said.read_text().count("\n") > 0)
            port, path = said.read_text().split("\n")[:2]
            address = f"ws://127.0.0.1:{port}{path}"
            self._socket = self._opened.enter_context(connect(address, max_size=None))
        except BaseException:
            self._kill()
            raise
        self._ids = itertools.count()
        self._page: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._page = {"sessionId": attached["sessionId"]}
        for domain in ("Runtime", "Page", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A method of its protocol."""
        number = next(self._ids)
        asked = {"id": number, "method": method, "params": params} | self._page
        self._socket.send(json.dumps(asked))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(answer["params"]))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def eval(self, script: str) -> Any:
        """The value of an expression; None if it throws, as while the page is still loading."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Until the expression is true."""
        until(script, lambda: self.eval(script))
        return self.eval(script)

    def text(self, id: str) -> str:
        """Of an element, as it is read."""
        return str(self.eval(f"document.getElementById('{id}').innerText"))

    def prefer(self, scheme: str) -> None:
        """light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path, width: int = 1280, height: int = 800) -> None:
        """Write the page as a PNG, two pixels to one of the page's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        png = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(png))

    def close(self) -> None:
        self._page = {}
        with suppress(WebSocketException, OSError, TimeoutError):
            self.call("Browser.close")
        self._opened.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
