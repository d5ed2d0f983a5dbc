"""TFDS base class of the data sets, and how it is run: offline, without TensorFlow, atomically."""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxseg.data.facts import Facts
from jaxseg.data.notes import gather, report
from jaxseg.data.origin import Origin, keep, look, now
from jaxseg.files import make_folder

Examples = tuple[int, Iterable[dict[str, Any]]]
"""How many examples a split has, and what makes them."""


class LocalBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of builders that read their splits from a source folder or generate them.

    A data set gives ``FACTS``, ``FEATURES`` (or overrides ``features``) and ``splits``. Examples keep their order.
    Images are handed over as encoded bytes in a file object: TFDS stores those as they are, and needs TensorFlow to
    encode anything else.

    >>> from jaxseg.data.sets import camvid
    >>> issubclass(camvid.Builder, LocalBuilder)
    True
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = None
    FACTS: Facts
    # TFDS looks beside the code for checksums of downloads; there are none, and the search needs a package (the
    # backport importlib_resources) that TFDS does not install.
    code_path = None

    def __init_subclass__(cls, skip_registration: bool = True) -> None:
        super().__init_subclass__(skip_registration=True)  # they are found by file, see jaxseg.data.sets

    def features(self) -> dict[str, Any]:
        """Return the TFDS features of an example; their names are the keys of a record."""
        raise NotImplementedError

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return the splits to write, read from the source folder if there is one."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """Return the facts of the data set as it is configured.

        >>> from jaxseg.data.sets import camvid
        >>> camvid.Builder(data_dir="nowhere").facts() is camvid.FACTS
        True
        """
        return self.FACTS

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.FACTS.summary,
            homepage=self.FACTS.url or None,
            citation=self.FACTS.citation,
            features=tfds.features.FeaturesDict(self.features()),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        splits = self.splits(self._source)
        return {split: enumerate(_shown(f"{self.name}/{split}", *found)) for split, found in splits.items()}

    def _generate_examples(self, **kwargs: Any) -> Iterable[Any]:
        raise NotImplementedError("the splits are iterators already")

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        return builder_config  # as it is: TFDS would warn of every configuration that is not in a list

    _source: Path | None = None


def is_complete(builder: tfds.core.DatasetBuilder) -> bool:
    """Return True if a finished preparation lies there.

    >>> from jaxseg.data.sets import camvid
    >>> is_complete(camvid.Builder(data_dir="nowhere"))
    False
    """
    return (Path(builder.data_dir) / "dataset_info.json").is_file()


def generate(builder: LocalBuilder, source: str | os.PathLike[str] | None) -> None:
    """Prepare a data set, with a progress bar in a terminal and one line elsewhere.

    TFDS writes into a folder of another name and renames it at the end, so a killed run leaves nothing that looks done.
    Beside the prepared files is kept what they were made from (:mod:`jaxseg.data.origin`).

    >>> import tempfile
    >>> from jaxseg.data.sets import scenes
    >>> tiny = scenes.config({"size": 8, "train": 1, "val": 1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     builder = scenes.Builder(data_dir=folder, file_format="array_record", config=tiny)
    ...     generate(builder, None)
    ...     is_complete(builder)
    True
    """
    _generate(builder, source, None if source is None else source_of(builder, Path(source)))


def generate_again(builder: LocalBuilder, source: str | os.PathLike[str] | None) -> None:
    """Prepare a data set again, in a temporary folder that replaces the old files once it is complete.

    >>> import tempfile
    >>> from jaxseg.data.sets import scenes
    >>> tiny = scenes.config({"size": 8, "train": 1, "val": 1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     builder = scenes.Builder(data_dir=folder, file_format="array_record", config=tiny)
    ...     generate(builder, None)
    ...     generate_again(builder, None)
    ...     is_complete(builder)
    True
    """
    final, root = Path(builder.data_dir), Path(builder._data_dir_root)
    origin = None if source is None else source_of(builder, Path(source))
    with tempfile.TemporaryDirectory(prefix=f".{builder.name}-again-", dir=root) as folder:
        config = {"config": builder.builder_config} if builder.builder_config else {}
        other = type(builder)(data_dir=folder, file_format="array_record", **config)
        _generate(other, source, origin)
        os.replace(final, Path(folder) / "old")
        os.replace(other.data_dir, final)


def source_of(builder: LocalBuilder, source: Path) -> Origin:
    """Return the current state of a source folder, ignoring prepared data inside it.

    >>> import tempfile
    >>> from jaxseg.data.sets import camvid
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source_of(camvid.Builder(data_dir=folder), Path(folder)).files
    0
    """
    root, source = Path(builder._data_dir_root).resolve(), source.resolve()
    apart = [root / builder.name]
    if root.is_relative_to(source):
        apart += [root / path.relative_to(root).parts[0] for path in root.glob("*/*/dataset_info.json")]
        apart += [root / path.relative_to(root).parts[0] for path in root.glob("*/*/*/dataset_info.json")]
        apart += root.glob(".*-again-*")
    return replace(look(source, apart=apart), prepared=now())


def _generate(builder: LocalBuilder, source: str | os.PathLike[str] | None, origin: Origin | None) -> None:
    builder._source = None if source is None else Path(source).absolute()
    make_folder(Path(builder._data_dir_root), "--data-dir, or JAXSEG_DATA_DIR or JAXSEG_CACHE, names another")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    if not sys.stderr.isatty():
        print(f"preparing data set {builder.name} in {builder.data_dir}", file=sys.stderr, flush=True)
    tfds.disable_progress_bar()  # ours knows how many examples there will be
    try:
        # TFDS speaks of downloads on standard output, of which there are none
        with gather() as notes, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config, download_dir=os.fspath(Path(builder.data_dir).parent))
    except OSError:
        if not is_complete(builder):  # else another process has finished the same preparation meanwhile
            raise
        return
    if origin is not None:
        keep(Path(builder.data_dir), origin, tuple(report(notes)))


def _shown(name: str, total: int, examples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not sys.stderr.isatty():
        yield from examples
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(examples, description=name, total=total, console=Console(stderr=True))
