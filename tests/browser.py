"""A Chromium without a screen, over its pipe for developers: nothing but the program is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")


class Browser:
    """One page.

    Args:
        user: a folder of its own.
    """

    def __init__(self, user: Path) -> None:
        theirs, write = os.pipe()
        read, said = os.pipe()
        self.write, self.read = os.fdopen(write, "wb", 0), os.fdopen(read, "rb")
        begin = f'exec "$0" "$@" 3<&{theirs} 4>&{said}'  # it reads from 3 and writes to 4
        self.program = subprocess.Popen(
            ["bash", "-c", begin, str(CHROMIUM), *FLAGS, f"--user-data-dir={user}"],
            pass_fds=(theirs, said),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(said)
        self.number, self.rest = 0, b""
        self.events: list[dict[str, Any]] = []
        self.session: dict[str, str] = {}
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.program.terminate()
        self.program.wait(20)
        self.write.close()
        self.read.close()

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """What it answers; events on the way are kept."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": params, **self.session}
        self.write.write(json.dumps(asked).encode() + b"\0")
        while (found := self._next()).get("id") != self.number:
            self.events.append(found)
        result: dict[str, Any] = found["result"]
        return result

    def open(self, page: Path, width: int, height: int) -> None:
        """A page on a screen of that size, loaded."""
        self.events.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, script: str) -> Any:
        """What an expression says in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"][
            "value"
        ]

    def complaints(self) -> list[str]:
        """What the console says, and what was asked for beside files."""
        events = [(event["method"], event["params"]) for event in self.events]
        said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        found = [str(params) for method, params in events if method in said]
        found += [params["entry"]["text"] for name, params in events if name == "Log.entryAdded"]
        asked = [p["request"]["url"] for name, p in events if name == "Network.requestWillBeSent"]
        return found + [url for url in asked if not url.startswith("file:")]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            more = os.read(self.read.fileno(), 1 << 16)
            assert more, "Chromium has ended"
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found
