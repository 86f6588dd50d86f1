"""A headless Chromium for tests of pages, spoken to over its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A headless Chromium spoken to over its DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket

        with urllib.request.urlopen(f"{address}/json/list", timeout=20) as answer:
            target = next(item for item in json.load(answer) if item["type"] == "page")
        self.socket = websocket.create_connection(
            target["webSocketDebuggerUrl"], timeout=30, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, page: Path | str, width: int | None = None) -> None:
        """Go to a page, wait until all of it is there, and be told what it complains of and asks for meanwhile.

        page: a file, or an address. width: of a telephone's screen, in pixels.
        """
        for domain in ("Log", "Runtime", "Network", "Page"):
            self.call(f"{domain}.enable")
        if width is not None:
            self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
        )

    def wait_for(self, expression: str, seconds: float = 20.0) -> Any:
        """The value of an expression once it is true; fails with what the page shows where it does not become so."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{expression} is not so: {self.evaluate('document.body.innerText')}"
            time.sleep(0.02)
        return value

    def wait_for_text(self, text: str, seconds: float = 20.0) -> None:
        """Wait until the page shows a text."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    def press(self, key: str, code: str | None = None) -> None:
        """Press a key: a letter or digit, or a name such as Enter, ArrowRight."""
        is_letter = len(key) == 1
        code = code or (f"Key{key.upper()}" if is_letter and key.isalpha() else f"Digit{key}" if is_letter else key)
        number = ord(key.upper()) if is_letter else {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        number = number or {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Backspace": 8}.get(
            key, 0
        )
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"text": key} if is_letter else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, element: str) -> None:
        """Click the middle of an element, which an expression of JavaScript gives, once it is there and holds still."""
        place = self.wait_for(
            f"""(async () => {{
                 const found = {element};
                 if (!found) return null;
                 found.scrollIntoView({{block: 'center', inline: 'center'}});
                 const before = found.getBoundingClientRect();
                 await new Promise(done => setTimeout(done, 60));
                 const now = found.getBoundingClientRect();
                 return before.top === now.top && now.width && found.isConnected
                   ? [now.left + now.width / 2, now.top + now.height / 2] : null;
               }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def click_button(self, label: str) -> None:
        """Click the button whose text begins so, once it can be clicked; a newline stands for its end."""
        self.click(
            f"[...document.querySelectorAll('button:not(:disabled)')]"
            f".find(b => (b.innerText.trim() + '\\n').startsWith({json.dumps(label)}))"
        )

    def type(self, text: str) -> None:
        """Type a text where the cursor is."""
        self.call("Input.insertText", text=text)

    def screenshot(self, file: Path, *, whole: bool = False, width: int = 1280, height: int = 900) -> None:
        """Keep what the page shows as a PNG; `whole`: as high as the page is."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(0.4)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def outside_of_charts(self) -> list[str]:
        """Parts of pictures that are not inside them, as HTML."""
        found: list[str] = self.evaluate(
            """[...document.querySelectorAll('svg')].flatMap(svg => {
                 const box = svg.viewBox.baseVal;
                 return [...svg.querySelectorAll('text, circle, polygon, path, line')].filter(part => {
                   const b = part.getBBox();
                   return b.x < -1 || b.y < -1 || b.x + b.width > box.width + 1 || b.y + b.height > box.height + 1;
                 }).map(part => part.outerHTML);
               })"""
        )
        return found

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings of the page so far."""
        return [
            event
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"))
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
        ]

    def asked_of_others(self, own: str | None = None) -> list[str]:
        """Addresses beyond this machine's files, and beyond those that start with `own`, that the page asked for."""
        asked = [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]
        asked += [one["params"]["url"] for one in self.events if one["method"] == "Network.webSocketCreated"]
        ours = ("file:", "data:", *((own, own.replace("http:", "ws:"), f"blob:{own}") if own else ()))
        return [url[:80] for url in asked if not url.startswith(ours)]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
        "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            marker = profile / "DevToolsActivePort"
            deadline = time.monotonic() + 40
            while not (marker.exists() and marker.read_text().count("\n")):
                assert process.poll() is None, (profile.parent / "chromium.log").read_text()
                assert time.monotonic() < deadline, "chromium did not open its DevTools port"
                time.sleep(0.05)
            yield Browser(f"http://127.0.0.1:{marker.read_text().splitlines()[0]}")
        finally:
            process.terminate()
            process.wait(timeout=20)
