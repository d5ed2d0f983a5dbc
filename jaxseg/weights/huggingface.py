"""The Hugging Face hub through its own library (``pip install "jaxseg[hub]"``): its cache, tokens and protocols.

What is fetched lies in jaxseg's cache, ``huggingface`` in :func:`jaxseg.files.cache_dir`; ``HF_ENDPOINT`` names
another hub, and ``HF_TOKEN`` or ``hf auth login`` open what is not public.
"""

import contextlib
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxseg.errors import BadInput, FailedRun

CARDS = ("config.json", "card.json", "preprocessor_config.json", "albumentations_config_eval.json")
"""Files that describe a repository's model, classes and statistics of pixels."""

FIRST = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "weights.safetensors")

ELSE = ("pytorch_model.bin", "diffusion_pytorch_model.safetensors", "weights.npz")
"""Names of a repository's weights, used only where it has none of :data:`FIRST`."""


@dataclass(frozen=True)
class Hosted:
    """A repository on the hub, or one file of it.

    >>> str(Hosted("timm/resnet50.a1_in1k", "model.safetensors"))
    'hf:timm/resnet50.a1_in1k/model.safetensors'

    Attributes:
      repository: ``org/name``.
      file: a path in it; "" for the whole as far as it is a model.
      revision: branch, tag or commit.
    """

    repository: str
    file: str = ""
    revision: str = "main"

    def __str__(self) -> str:
        """As users write it."""
        file = f"/{self.file}" if self.file else ""
        return f"hf:{self.repository}{file}" + (f"@{self.revision}" if self.revision != "main" else "")


def parse(kind: str, rest: str) -> Hosted:
    """Return the repository that follows ``hf:``, ``timm:`` or ``smp:``.

    >>> str(parse("timm", "resnet50.a1_in1k"))
    'hf:timm/resnet50.a1_in1k'

    Raises:
      BadInput: that names no repository.
    """
    prefix = {"timm": "timm/", "smp": "smp-hub/"}.get(kind, "")
    place, _, revision = rest.partition("@")
    parts = f"{prefix}{place}".split("/")
    if len(parts) < 2 or not all(re.fullmatch(r"[\w.-]+", part) and part not in (".", "..") for part in parts):
        raise BadInput(f"{kind}:{rest} names no repository; it is hf:ORG/REPO, hf:ORG/REPO/FILE or timm:NAME")
    if revision and (not re.fullmatch(r"[\w./-]+", revision) or ".." in revision):
        raise BadInput(f"{revision!r} is no revision")
    return Hosted("/".join(parts[:2]), "/".join(parts[2:]), revision or "main")


def fetch(hosted: Hosted, folder: Path, endpoint: str) -> Path:
    """Return the file, or the folder with the repository's weights and cards, from the cache or the hub.

    >>> import tempfile
    >>> from unittest import mock
    >>> cache, endpoint = Path(tempfile.mkdtemp()), "https://huggingface.co"
    >>> with mock.patch.dict(os.environ, JAXSEG_OFFLINE="1"):
    ...     fetch(Hosted("timm/resnet50.a1_in1k"), cache, endpoint)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: hf:timm/resnet50.a1_in1k is not in the cache, and JAXSEG_OFFLINE forbids to download it

    Args:
      hosted: what is wanted.
      folder: jaxseg's cache.
      endpoint: the hub's address.

    Raises:
      BadInput: the library is not installed; there is no such repository, revision or file; it is not in the cache and
        ``JAXSEG_OFFLINE`` is set.
      FailedRun: it could not be downloaded, or is not what was published.
    """
    library = _library()
    offline = os.environ.get("JAXSEG_OFFLINE", "0") not in ("", "0")
    common = {
        "revision": hosted.revision,
        "cache_dir": folder / "huggingface",
        "endpoint": endpoint,
        "local_files_only": offline,
    }
    with _errors(str(hosted), offline), _quiet_unless_seen():
        if hosted.file:
            path = Path(library.hf_hub_download(hosted.repository, hosted.file, **common))
            _check(path, str(hosted))
            return path
        for patterns in (FIRST, ELSE):
            path = Path(library.snapshot_download(hosted.repository, allow_patterns=[*CARDS, *patterns], **common))
            found = [file for pattern in patterns for file in path.glob(pattern)]
            for file in found:
                _check(file, str(hosted))
            if found:
                return path
    raise BadInput(f"{hosted} holds no weights; name the file: {hosted.repository}/FILE")


def push(folder: Path, repository: str, endpoint: str, *, private: bool = False, message: str = "") -> str:
    """Upload a folder as a repository, which is made if there is none, and return the address of the commit.

    >>> push(Path("runs/unet"), "org/unet/weights", "https://huggingface.co")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: 'org/unet/weights' is no repository; it is ORG/REPO

    Raises:
      BadInput: the library is not installed, that is no repository's name, or this user may not write there.
      FailedRun: the upload failed.
    """
    if parse("hf", repository).file or "@" in repository:
        raise BadInput(f"{repository!r} is no repository; it is ORG/REPO")
    library = _library()
    hub = library.HfApi(endpoint=endpoint)
    with _errors(f"hf:{repository}", offline=False), _quiet_unless_seen():
        hub.create_repo(repository, private=private, exist_ok=True)
        done = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message or "A model of jaxseg")
        return str(done.commit_url)


def _library() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise BadInput(
            'the Hugging Face hub is reached through its library, which is not installed: pip install "jaxseg[hub]"'
        ) from error


@contextlib.contextmanager
def _errors(what: str, offline: bool) -> Iterator[None]:
    """Raise the library's errors as jaxseg's, in one line."""
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except (BadInput, FailedRun):
        raise
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise BadInput(f"{what} is not in the cache, and JAXSEG_OFFLINE forbids to download it") from error
        raise FailedRun(f"{what} cannot be reached ({_line(error.__cause__ or error)})") from error
    except errors.LocalTokenNotFoundError as error:
        raise BadInput(f"{what} requires authentication: set HF_TOKEN or run `hf auth login`") from error
    except errors.GatedRepoError as error:
        raise BadInput(f"{what} is open only to those who accepted its terms, with HF_TOKEN set") from error
    except errors.RepositoryNotFoundError as error:
        raise BadInput(f"there is no {what}, or it is not public and HF_TOKEN does not open it") from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        raise BadInput(f"there is no {what} ({_line(error)})") from error
    except Exception as error:
        answer = getattr(getattr(error, "response", None), "status_code", 0)
        kind = BadInput if answer in (400, 401, 403) else FailedRun
        raise kind(f"{what}: request to the Hugging Face Hub failed ({_line(error)})") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextlib.contextmanager
def _quiet_unless_seen() -> Iterator[None]:
    """Show the library's progress bars only on a terminal."""
    tools = importlib.import_module("huggingface_hub.utils")  # which the library itself loads only when it needs it
    if sys.stderr.isatty() or tools.are_progress_bars_disabled():
        yield
        return
    tools.disable_progress_bars()
    try:
        yield
    finally:
        tools.enable_progress_bars()


def _check(path: Path, what: str) -> None:
    """Check a large file against its sha256, under which the library stores it."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != name:
            path.resolve().unlink()
            raise FailedRun(f"{what} is not what was published: its sha256 begins {digest[:12]}, not {name[:12]}")
