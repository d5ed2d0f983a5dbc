"""The Hugging Face hub's library against a small hub on this machine: there, back, offline, and what goes wrong."""

import base64
import hashlib
import http.server
import importlib
import json
import threading

import jax
import numpy as np
import pytest

import jaxseg
from jaxseg.errors import BadInput, FailedRun
from jaxseg.models.semantic.unet import unet
from jaxseg.tasks.semantic import Semantic
from jaxseg.weights.hub import fetch

pytest.importorskip("huggingface_hub", reason="the hub is reached through its library (extra 'hub')")

COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as its library asks for; repositories are dicts of files."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.seen.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        if repository not in self.server.files:
            return self.say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}, body=body)
        files = self.server.files[repository]
        if api and "tree" in parts:
            tree = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in files.items()]
            return self.say(200, tree, body=body)
        if api:
            names = [{"rfilename": name} for name in files]
            return self.say(200, {"id": repository, "sha": COMMIT, "siblings": names}, body=body)
        name = "/".join(parts[4:])
        if parts[3] not in ("main", COMMIT):
            return self.say(404, {"error": "x"}, {"X-Error-Code": "RevisionNotFound"}, body=body)
        if name not in files:
            return self.say(404, {"error": "x"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body=body)
        data = files[name]
        digest = hashlib.sha256(data).hexdigest()
        about = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if self.server.corrupts:
            data = b"\xff" * len(data)
        return self.say(200, data, about, body=body)

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.path)
        parts = self.path.strip("/").split("/")
        if self.headers.get("Authorization") != "Bearer hf_writer":
            return self.say(403, {"error": "this token may not write"})
        if parts[-1] == "validate-yaml":
            return self.say(200, {"errors": [], "warnings": []})
        if parts[-1] == "create":
            form = json.loads(data)
            name = f"{form['organization']}/{form['name']}" if form.get("organization") else form["name"]
            self.server.files.setdefault(name, {})
            return self.say(200, {"url": f"{self.server.address}/{name}", "name": name, "id": name})
        repository = "/".join(parts[2:4])
        if parts[4] == "preupload":
            wanted = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(data)["files"]]
            return self.say(200, {"files": wanted})
        for line in data.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.server.files[repository][entry["value"]["path"]] = content
        url = f"{self.server.address}/{repository}/commit/{COMMIT}"
        return self.say(200, {"success": True, "commitUrl": url, "commitOid": COMMIT})

    def say(self, status, content, headers=None, *, body=True):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.files, made.seen, made.corrupts = {}, [], False
    # In a new process the library has not loaded its parts yet.
    monkeypatch.delattr(importlib.import_module("huggingface_hub"), "utils", raising=False)
    made.address = f"http://127.0.0.1:{made.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", made.address)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXSEG_OFFLINE", raising=False)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def a_folder(path):
    """A tiny U-Net as ``jaxseg.save`` writes it."""
    from jaxseg.export import folder
    from jaxseg.export.folder import Card

    model = unet(num_classes=3, depth=1, width=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.uint8))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    classes, palette = ("sky", "wall", "floor"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    folder.write(path, Card(model, Semantic(3), "tiny", classes, palette, "MIT", metrics={"val mIoU": 0.5}), variables)
    return variables


def test_there_and_back(hub, tmp_path, monkeypatch):
    variables = a_folder(tmp_path / "model")
    address = jaxseg.push_to_hub(tmp_path / "model", "me/tiny", message="First")
    assert address == f"{hub.address}/me/tiny/commit/{COMMIT}"
    assert set(hub.files["me/tiny"]) >= {"README.md", "card.json", "weights.safetensors"}
    page = hub.files["me/tiny"]["README.md"].decode()
    assert "license: mit\n" in page
    assert 'jaxseg.load("hf:me/tiny")' in page
    assert "val mIoU: 0.5" in page
    run = jaxseg.load("hf:me/tiny")
    assert run.facts.classes == ("sky", "wall", "floor")
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(run.variables), dict(variables)))
    hub.seen.clear()
    monkeypatch.setenv("JAXSEG_OFFLINE", "1")
    assert jaxseg.load("hf:me/tiny").name == "tiny"
    assert not hub.seen
    with pytest.raises(BadInput, match="hf:me/other is not in the cache, and JAXSEG_OFFLINE"):
        jaxseg.load("hf:me/other")


def test_one_file(hub):
    hub.files["org/repo"] = {"sub/a.npz": b"numbers", "b.npz": b"other"}
    path = fetch("hf:org/repo/sub/a.npz", "unet")
    assert path.read_bytes() == b"numbers"
    assert not [asked for asked in hub.seen if "b.npz" in asked]
    assert fetch("hf:org/repo/sub/a.npz@main", "unet") == path


def test_only_what_a_model_needs_is_fetched(hub):
    hub.files["timm/resnet.in1k"] = {"model.safetensors": b"a", "config.json": b"{}", "pytorch_model.bin": b"b"}
    hub.files["timm/old"] = {"pytorch_model.bin": b"b", "optimizer.pt": b"c"}
    hub.files["timm/none"] = {"notes.txt": b"b"}
    assert {path.name for path in fetch("timm:resnet.in1k", "").iterdir()} == {"model.safetensors", "config.json"}
    assert {path.name for path in fetch("timm:old", "").iterdir()} == {"pytorch_model.bin"}
    with pytest.raises(BadInput, match="hf:timm/none holds no weights; name the file"):
        fetch("timm:none", "")


def test_what_goes_wrong(hub, tmp_path, monkeypatch):
    hub.files["org/repo"] = {"model.safetensors": b"a" * 2000}
    for source, message in [
        ("hf:org/absent", "there is no hf:org/absent"),
        ("hf:org/repo/absent.npz", "there is no hf:org/repo/absent.npz"),
        ("hf:org/repo/model.safetensors@v9", "there is no hf:org/repo/model.safetensors@v9"),
    ]:
        with pytest.raises(BadInput, match=message) as error:
            fetch(source, "unet")
        assert "\n" not in str(error.value)
    hub.corrupts = True
    with pytest.raises(FailedRun, match="is not what was published"):
        fetch("hf:org/repo", "unet")
    with pytest.raises(FailedRun, match="is not what was published"):  # nothing of it stays
        fetch("hf:org/repo", "unet")
    hub.corrupts = False
    assert (fetch("hf:org/repo", "unet") / "model.safetensors").read_bytes() == b"a" * 2000
    a_folder(tmp_path / "model")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(BadInput, match="hf:me/tiny: request to the Hugging Face Hub failed"):
        jaxseg.push_to_hub(tmp_path / "model", "me/tiny")
    with pytest.raises(BadInput, match="is no folder of a model"):
        jaxseg.push_to_hub(tmp_path, "me/tiny")
    with pytest.raises(BadInput, match="is no repository"):
        jaxseg.push_to_hub(tmp_path / "model", "me/tiny/file")
    monkeypatch.setenv("HF_ENDPOINT", "http://example.com")
    with pytest.raises(BadInput, match="not encrypted"):
        fetch("hf:org/repo", "unet")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FailedRun, match=r"hf:org/new(: request to the Hugging Face Hub failed| cannot be reached)"):
        fetch("hf:org/new", "unet")


def test_the_command_line_pushes(hub, tmp_path):
    from jaxseg.cli.main import main

    a_folder(tmp_path / "model")
    words = ["export", tmp_path / "model", "--format", "safetensors", "--out", tmp_path / "copy", "--push-to", "me/it"]
    assert main([str(word) for word in words]) == 0
    assert "card.json" in hub.files["me/it"]
