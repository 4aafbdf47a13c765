"""push, to a Hub on loopback that keeps what it is sent."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny import saved, tiny

import acn_compress
from acn_compress.errors import ModelDirError

TOKEN = "hf_of_a_test"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload of small files asks for."""

    repositories: dict[str, dict[str, Any]]
    refuse: bool

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""

    def answer(self, data: object, status: int = 200) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").partition("/revision")[0]
        if self.path.startswith("/api/whoami"):
            self.answer({"name": "me", "type": "user", "orgs": []})
        elif name in self.repositories:
            self.answer({"id": name, "private": self.repositories[name]["private"], "siblings": []})
        else:
            self.answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = self.body()
        if self.refuse or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            there = name in self.repositories
            private = asked.get("private", asked.get("visibility") == "private")
            self.repositories.setdefault(name, {"private": private, "files": {}})
            url = f"http://{self.headers['Host']}/{name}"
            return self.answer({"url": url, "name": name, "id": name}, 409 if there else 200)
        name = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.answer(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                }
            )
        if self.path == "/api/validate-yaml":  # the card's header
            return self.answer({"errors": [], "warnings": []})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.repositories[name]["files"][line["value"]["path"]] = content
        self.answer(
            {"commitUrl": f"http://{self.headers['Host']}/{name}/commit/0", "commitOid": "0"}
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Fresh", (Hub,), {"repositories": {}, "refuse": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import HfApi, constants

    # the library reads HF_ENDPOINT and HF_HUB_OFFLINE when it is first imported
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        HfApi, "__init__", functools.partialmethod(HfApi.__init__, endpoint=address)
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield handler
    server.shutdown()
    server.server_close()


def test_the_files_of_a_directory_lie_on_the_hub_and_no_others(
    hub: type[Hub], tmp_path: Path
) -> None:
    small = saved(tiny("vit"), tmp_path / "small")
    written = {p.name for p in small.iterdir()}
    (tmp_path / "secret").write_text("mine")
    for name in (".env", "notes.txt", "training.pt"):
        (small / name).write_text("mine")
    (small / "tokenizer.json").symlink_to(tmp_path / "secret")
    report = acn_compress.push(small, "me/small")
    there = hub.repositories["me/small"]
    assert there["private"] is report["private"] is True
    assert set(there["files"]) == set(report["files"]) == written
    assert set(report["left_out"]) == {".env", "notes.txt", "training.pt", "tokenizer.json"}
    assert all((small / f).read_bytes() == found for f, found in there["files"].items())
    again = acn_compress.push(small, "small", public=True)  # it stays what it is
    assert (again["repository"], again["private"]) == ("me/small", True)
    assert not acn_compress.push(small, "me/open", public=True)["private"]


def test_what_cannot_be_pushed_is_one_line(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = saved(tiny("vit"), tmp_path / "small")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(ModelDirError, match="was not written by acn-compress"):
        acn_compress.push(tmp_path / "other", "me/other")
    with pytest.raises(ModelDirError, match="no such directory"):
        acn_compress.push(tmp_path / "nothing", "me/other")
    hub.refuse = True
    for name in ("me/small", "not a name"):
        with pytest.raises(ModelDirError, match="the Hub did not take") as told:
            acn_compress.push(small, name)
        assert "\n" not in str(told.value) and TOKEN not in str(told.value)
    assert not hub.repositories
