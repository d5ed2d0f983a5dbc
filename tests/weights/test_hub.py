"""Downloads from a server on this machine that drops, truncates, corrupts, redirects, stalls and refuses."""

import hashlib
import http.server
import sys
import threading
import time

import numpy as np
import pytest

from jaxseg.errors import BadInput, FailedRun
from jaxseg.weights import hub
from jaxseg.weights.hub import download, fetch, find
from jaxseg.weights.huggingface import Hosted
from jaxseg.weights.published import PUBLISHED, Published
from tests.torchvision_cpu import torchvision_or_skip

DATA = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    def do_GET(self):
        kind, seen = self.path.split("/")[1], self.server.seen
        seen.append((kind, self.headers.get("Range")))
        turn = sum(past == kind for past, _ in seen)
        if kind == "redirect":
            return self.lead("/good/a.pth")
        if kind == "loop":
            return self.lead("/loop/a.pth")
        if kind == "elsewhere":
            return self.lead("http://example.com/a.pth")
        if kind == "absent" or (kind == "busy" and turn < 3):
            return self.send_error(404 if kind == "absent" else 503)
        if kind == "stalls" and turn == 1:
            time.sleep(1)
            return None
        begin = 0
        if self.headers.get("Range") and kind != "norange":
            begin = int(self.headers["Range"].split("=")[1].rstrip("-"))
            if begin >= len(DATA):
                return self.send_error(416)
        data = DATA[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if kind in ("drops", "norange") and turn < 3:
            data = data[:100_000]
        if kind == "never" and turn > 1:
            data = b""
        elif kind == "never":
            data = data[:1000]
        if kind == "corrupts" or (kind == "once" and turn == 1):
            data = b"x" + data[1:]
        self.wfile.write(data)
        return None

    def lead(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXSEG_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_PAUSE", 0.001)
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen, made.address = [], f"http://127.0.0.1:{made.server_address[1]}"
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("kind", ["good", "drops", "norange", "redirect", "busy", "stalls", "once"])
def test_it_comes_whole(server, kind):
    told = []
    published = Published(f"{server.address}/{kind}/a.pth", HASH[:8])
    path = download(published, on_bytes=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert [file.name for file in path.parent.iterdir()] == ["a.pth"]
    if kind == "drops":
        assert [asked for _, asked in server.seen] == [None, "bytes=100000-", "bytes=200000-"]
    count = len(server.seen)
    assert download(published) == path
    assert len(server.seen) == count


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("corrupts", FailedRun, "not what was published"),
        ("never", FailedRun, "the same command goes on"),
        ("absent", BadInput, "404"),
        ("loop", (BadInput, FailedRun), "cannot be downloaded"),
        ("elsewhere", BadInput, "not encrypted"),
    ],
)
def test_it_does_not_come(server, tmp_path, kind, error, message):
    with pytest.raises(error, match=message) as raised:
        download(Published(f"{server.address}/{kind}/a.pth", HASH))
    assert "\n" not in str(raised.value)
    assert not [path for path in (tmp_path / "cache").rglob("a.pth") if path.is_file()]


def test_a_broken_download_is_taken_up_by_the_next_command(server):
    published = Published(f"{server.address}/never/a.pth", HASH)
    with pytest.raises(FailedRun):
        download(published)
    server.seen.clear()
    with pytest.raises(FailedRun):
        download(published)
    assert server.seen[0] == ("never", "bytes=1000-")


def test_offline(server, monkeypatch):
    published = Published(f"{server.address}/good/a.pth", HASH)
    monkeypatch.setenv("JAXSEG_OFFLINE", "1")
    with pytest.raises(BadInput, match="JAXSEG_OFFLINE"):
        download(published)
    assert not server.seen
    monkeypatch.delenv("JAXSEG_OFFLINE")
    path = download(published)
    monkeypatch.setenv("JAXSEG_OFFLINE", "1")
    assert download(published) == path
    monkeypatch.setenv("JAXSEG_CACHE", "off")
    with pytest.raises(BadInput, match="switched off"):
        download(published)


def test_sources(server, tmp_path):
    assert find("hf:org/repo", "unet") == Hosted("org/repo")
    assert find("hf:org/repo/sub/a.pth@refs/pr/1", "unet") == Hosted("org/repo", "sub/a.pth", "refs/pr/1")
    assert find("timm:resnet50.a1_in1k", "unet") == Hosted("timm/resnet50.a1_in1k")
    assert find("smp:unet", "unet") == Hosted("smp-hub/unet")
    zoo = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"
    assert find("detectron2:ImageNetPretrained/MSRA/R-50.pkl", "unet").url == zoo
    assert find("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "unet").url == zoo
    assert find("torchvision:IMAGENET1K_V2", "resnet50").url.endswith("/resnet50-11ad3fa6.pth")
    assert fetch(f"{server.address}/good/a.pth", "unet").read_bytes() == DATA
    (tmp_path / "a.pth").touch()
    assert fetch(str(tmp_path / "a.pth"), "unet") == tmp_path / "a.pth"
    for source, message in [
        ("torchvision:COCO_WITH_VOC_LABELS_V2", "COCO_WITH_VOC_LABELS_V1"),
        ("hf:repo", "names no repository"),
        ("hf:org/repo@../v1", "is no revision"),
        ("detectron2:../R-50.pkl", "is no file of its model zoo"),
        ("hf:org/../repo", "names no repository"),
        ("http://example.com/a.pth", "not encrypted"),
        ("ftp://example.com/a.pth", "no source"),
    ]:
        with pytest.raises(BadInput, match=message):
            find(source, "fcn_resnet50")


MEASURED = {
    "mIoU": "miou",
    "top-1": "acc@1",
    "box AP": "box_map",
    "mask AP": "mask_map",
    "keypoint AP": "kp_map",
}


def test_the_table_is_torchvision_s():
    torchvision = torchvision_or_skip()
    for model, sources in PUBLISHED.items():
        for source, published in sources.items():
            whose, _, tag = source.partition(":")
            if whose != "torchvision":
                continue
            weights = torchvision.models.get_model_weights(model.replace("_rcnn", "rcnn"))[tag]
            assert published.url == weights.url
            assert published.url.endswith(f"-{published.sha256}.pth")
            measured = {key: value for row in weights.meta["_metrics"].values() for key, value in row.items()}
            for said in published.figure.split(", "):
                name, figure = said.rsplit(" ", 1)
                assert float(figure) == measured[MEASURED[name]]


def test_the_hub_without_its_library(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BadInput, match=r'pip install "jaxseg\[hub\]"'):
        fetch("hf:org/repo", "unet")
