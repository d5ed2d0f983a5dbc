"""Weights by name: find published files and download them.

A source is a path, ``https://...``, ``torchvision:TAG``, ``detectron2:PATH`` in its model zoo, or on the Hugging Face
hub ``hf:org/repo[/file]``, ``timm:NAME``, ``smp:NAME`` (:mod:`jaxseg.weights.huggingface`). A download is
resumed where it broke off, checked against its hash before it is used, and appears in the cache whole or not at all.
``JAXSEG_CACHE`` moves the cache; with ``JAXSEG_OFFLINE=1`` the network is not used.
"""

import contextlib
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxseg.errors import BadInput, FailedRun, suggest
from jaxseg.files import cache_dir, make_folder
from jaxseg.weights import huggingface
from jaxseg.weights.huggingface import Hosted
from jaxseg.weights.published import PUBLISHED, ZOO, Published

TRIES = 5
"""Number of attempts without progress after which a download fails."""

TIMEOUT = 30.0
"""Seconds to wait for a response."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

Progress = Callable[[int, int | None], None]

KINDS = ("torchvision", "timm", "smp", "hf", "detectron2", "http", "https")
"""Kinds of source, before the colon."""

DETECTRON2_EXAMPLE = "detectron2:ImageNetPretrained/MSRA/R-50.pkl"
"""Files there have no published hashes; TLS is what vouches for them."""


def find(source: str, model: str) -> Published | Hosted | Path:
    """Return what a source refers to: a local path, a published file, or a repository on the hub.

    >>> str(find("hf:timm/resnet50.a1_in1k", "resnet50")), find("weights.npz", "resnet50").name
    ('hf:timm/resnet50.a1_in1k', 'weights.npz')

    Raises:
      BadInput: there is nothing of that name.
    """
    kind, colon, rest = source.partition(":")
    if not colon or len(kind) == 1 or Path(source).exists():
        return Path(source)
    known = _published(model)
    if kind in ("http", "https"):
        return Published(_allowed(source))
    if source in known:
        return known[source]
    if kind == "torchvision":
        raise BadInput(f"no weights {source!r} of {model!r} are known{suggest(source, known)}")
    if kind == "detectron2":
        return Published(_in_zoo(rest))
    if kind in ("hf", "timm", "smp"):
        return huggingface.parse(kind, rest)
    kinds = (
        *("torchvision:TAG", "timm:NAME", "smp:NAME", "hf:ORG/REPO[/FILE]"),
        *("detectron2:FOLDER/FILE", "https://...", "a path"),
    )
    raise BadInput(f"{source!r} is no source of weights; there are {', '.join(kinds)}")


def _published(model: str) -> dict[str, Published]:
    """Published files of a model and of the backbone that its name holds: ``resnet50`` of ``fcn_resnet50``."""
    backbones = [name for name in PUBLISHED if f"_{name}_" in f"{model}_"]
    backbone = PUBLISHED[max(backbones, key=len)] if backbones else {}
    return {**backbone, **PUBLISHED.get(model, {})}


def is_name(source: str) -> bool:
    """Return True if a source is a name or an address rather than a path.

    >>> is_name("torchvision:IMAGENET1K_V1"), is_name("weights.npz")
    (True, False)
    """
    return source.partition(":")[0] in KINDS and ":" in source and not Path(source).exists()


def fetch(source: str, model: str, *, on_bytes: Progress | None = None) -> Path:
    """Return the file that a source refers to, or a folder with the files of a repository; download it unless cached.

    >>> fetch("weights.npz", "")
    PosixPath('weights.npz')

    Args:
      source: see the module.
      model: whose weights, for sources that are known by model.
      on_bytes: called with the bytes that have been downloaded and, where known, their total.

    Raises:
      BadInput: no such source, or the cache is switched off.
      FailedRun: it could not be downloaded, or is not what was published.
    """
    found = find(source, model)
    if isinstance(found, Path):
        return found
    if isinstance(found, Hosted):
        return huggingface.fetch(found, _cache(), endpoint())
    return download(found, on_bytes=on_bytes)


def endpoint() -> str:
    """Return the address of the Hugging Face hub: ``HF_ENDPOINT`` or the public one.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, HF_ENDPOINT="https://hub.example.org/"):
    ...     endpoint()
    'https://hub.example.org'

    Raises:
      BadInput: it is not encrypted.
    """
    return _allowed((os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"))


def download(published: Published, *, on_bytes: Progress | None = None) -> Path:
    """Return the published file in the cache; see ``fetch``.

    >>> import tempfile
    >>> from unittest import mock
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.npz").write_bytes(b"numbers")
    >>> published = Published((folder / "a.npz").as_uri(), sha256=hashlib.sha256(b"numbers").hexdigest())
    >>> with mock.patch.dict(os.environ, JAXSEG_CACHE=str(folder / "cache")):
    ...     found = download(published)
    >>> found.is_relative_to(folder / "cache"), found.read_bytes()
    (True, b'numbers')
    """
    folder = _cache()
    url = published.url
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]) or "weights"
    place = folder / "weights" / hashlib.sha256(url.encode()).hexdigest()[:16] / name.lstrip(".")
    if place.is_file():
        return place
    if os.environ.get("JAXSEG_OFFLINE", "0") not in ("", "0"):
        raise BadInput(f"{url} is not in the cache ({place.parent}), and JAXSEG_OFFLINE forbids to download it")
    make_folder(place.parent, "JAXSEG_CACHE names another")
    part = place.with_name(f".{place.name}.part")
    for again in (True, False):
        _complete(url, part, on_bytes)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest.startswith(published.sha256.lower()):
            os.replace(part, place)
            return place
        part.unlink()
        if not again:
            break
    raise FailedRun(f"{url} is not what was published: its sha256 begins {digest[:12]}, not {published.sha256[:12]}")


def _cache() -> Path:
    folder = cache_dir()
    if folder is None:
        raise BadInput("JAXSEG_CACHE is switched off: download the file and give its path")
    return folder


def _complete(url: str, part: Path, on_bytes: Progress | None) -> None:
    """Download the whole file, resuming after each interruption; only attempts without progress count."""
    fruitless, reason = 0, ""
    while fruitless < TRIES:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _attempt(url, part, before, on_bytes):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            error.close()
            reason = " ".join(f"{error.code} {error.reason}".split())
            if error.code == 416:  # what is here is not the beginning of what is there
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise BadInput(f"{url} cannot be downloaded: {reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        now = part.stat().st_size if part.exists() else 0
        fruitless = 0 if now > before else fruitless + 1
        time.sleep(min(_PAUSE * 2**fruitless, 20.0))
    raise FailedRun(f"{url} cannot be downloaded ({reason}); the same command goes on from what is here")


_PAUSE = 0.5


def _attempt(url: str, part: Path, have: int, on_bytes: Progress | None) -> bool:
    """Request what is missing; return True if the file is complete afterwards."""
    request = urllib.request.Request(url, headers={"User-Agent": "jaxseg", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_Redirects)
    with contextlib.closing(opener.open(request, timeout=TIMEOUT)) as answer:
        resumed = have > 0 and answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with part.open("ab" if resumed else "wb") as file:
            while True:
                block = answer.read(1 << 18)
                if not block:
                    break
                file.write(block)
                have += len(block)
                if on_bytes is not None:
                    on_bytes(have, total)
    return total is None or have >= total


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never to an unencrypted address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the next request."""
        if urllib.parse.urlsplit(newurl).scheme != "https" and not _stays(req.full_url, newurl):
            fp.close()
            raise BadInput(f"{req.full_url} leads to {newurl}, which is not encrypted; weights come by https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stays(url: str, other: str) -> bool:
    """Return True if both are on this machine."""
    return all(urllib.parse.urlsplit(place).hostname in LOOPBACK for place in (url, other))


def _allowed(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise BadInput(f"{url} is not encrypted; weights come by https")
    return url


def _in_zoo(rest: str) -> str:
    """Return the address of a file in detectron2's model zoo, also as its own ``detectron2://`` has it."""
    rest = rest.removeprefix("//")
    if not all(re.fullmatch(r"[\w.-]+", part) and part not in (".", "..") for part in rest.split("/")):
        raise BadInput(f"detectron2:{rest} is no file of its model zoo, such as {DETECTRON2_EXAMPLE}")
    return ZOO + rest
