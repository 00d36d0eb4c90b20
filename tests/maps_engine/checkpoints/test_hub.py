"""The hub by its own client over real HTTP: a loopback server that speaks as much of the hub as is asked."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import Failure, UnknownModel
from tests.support.tiny_models import tiny_model

COMMIT = "0123456789012345678901234567890123456789"


class Hub(BaseHTTPRequestHandler):
    """One public model, tiny/llama; `status` makes every answer fail with that code."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - set by the fixture
    status = 200
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        body, headers, status = self._content()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _content(self) -> tuple[bytes, dict[str, str], int]:
        path = self.path.split("?")[0]
        if self.status != 200:
            code = {404: "RepoNotFound", 401: "RepoNotFound", 403: "GatedRepo"}.get(self.status, "")
            return b"{}", {"X-Error-Code": code}, self.status
        if "/tree/" in path:
            sizes = {name: len(content) for name, content in self.files.items()}
            tree = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            return json.dumps(tree).encode(), {}, 200
        if path.startswith("/api/models/tiny/llama"):
            siblings = [{"rfilename": name} for name in self.files]
            return json.dumps({"id": "tiny/llama", "sha": COMMIT, "siblings": siblings}).encode(), {}, 200
        name = path.rsplit("/", 1)[-1]
        if name not in self.files:
            return b"", {}, 404
        self.seen.append(name)
        etag = hashlib.sha256(self.files[name]).hexdigest()
        return self.files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, 200

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    folder, _ = tiny_model("llama", tmp_path / "model")
    monkeypatch.setattr(Hub, "files", {path.name: path.read_bytes() for path in folder.iterdir()})
    monkeypatch.setattr(Hub, "seen", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def test_only_what_the_maps_need_is_fetched(hub):
    Hub.files = {**Hub.files, "pytorch_model.bin": b"not wanted", "README.md": b"not wanted"}
    checkpoint = open_checkpoint("tiny/llama", device="cpu")
    assert checkpoint.location == "hub tiny/llama"
    assert checkpoint.weights.shape.n_heads == 4
    assert set(Hub.seen) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_fetched_once_then_opened_without_the_net(hub):
    first = open_checkpoint("tiny/llama", device="cpu").fingerprint
    hub.shutdown()
    hub.server_close()
    assert open_checkpoint("tiny/llama", device="cpu").fingerprint == first


def test_bin_weights_are_fetched_where_there_is_nothing_better(hub, tmp_path):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "model" / "model.safetensors"), tmp_path / "m.bin")
    Hub.files = {name: content for name, content in Hub.files.items() if name != "model.safetensors"}
    Hub.files["pytorch_model.bin"] = (tmp_path / "m.bin").read_bytes()
    shape = open_checkpoint("tiny/llama", device="cpu").weights.shape
    assert "pytorch_model.bin" in Hub.seen
    hub.shutdown()
    hub.server_close()
    assert open_checkpoint("tiny/llama", device="cpu").weights.shape == shape


def test_same_content_same_fingerprint_as_a_folder(hub, tmp_path):
    fetched = open_checkpoint("tiny/llama", device="cpu").fingerprint
    assert fetched == open_checkpoint(str(tmp_path / "model"), device="cpu").fingerprint


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_such_or_closed_model(hub, monkeypatch, status):
    monkeypatch.setattr(Hub, "status", status)
    with pytest.raises(UnknownModel, match="hub model cannot be had: got tiny/llama") as error:
        open_checkpoint("tiny/llama")
    assert "\n" not in str(error.value)


def test_hub_out_of_order(hub, monkeypatch):
    monkeypatch.setattr(Hub, "status", 500)
    with pytest.raises(Failure, match="did not deliver") as error:
        open_checkpoint("tiny/llama")
    assert "\n" not in str(error.value)


def test_nobody_answers(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(UnknownModel, match="cannot be reached"):
        open_checkpoint("tiny/llama")


def test_no_write_access_to_the_hubs_cache(hub, tmp_path):
    from maps_engine.errors import CacheUnusable

    Path(tmp_path / "hub").write_text("a file is in the way")
    with pytest.raises(CacheUnusable, match="cannot be used"):
        open_checkpoint("tiny/llama")
