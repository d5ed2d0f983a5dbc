"""The TFDS builder that the data sets derive from, and the one way to run it: offline, without TensorFlow, atomic."""

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds


class LocalBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose ``_split_generators`` returns finished iterators of (key, example), from files or out of itself.

    Examples keep their order. Images are handed over as encoded bytes in a file object: TFDS stores those as they
    are, and needs TensorFlow to encode anything else.
    """

    VERSION = tfds.core.Version("1.0.0")
    # TFDS looks beside the code for checksums of downloads; there are none, and the search needs a package (the
    # backport importlib_resources) that TFDS does not install.
    code_path = None

    def _generate_examples(self, **kwargs: Any) -> Iterable[Any]:
        raise NotImplementedError("the splits are iterators already")

    def _described(self, features: dict[str, Any], *, summary: str, url: str, citation: str) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=summary,
            homepage=url or None,
            citation=citation,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )


def is_complete(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a finished preparation lies there."""
    return (Path(builder.data_dir) / "dataset_info.json").is_file()


def generate(builder: tfds.core.DatasetBuilder, source: str | os.PathLike[str] | None) -> None:
    """Prepare; a progress bar is shown in a terminal. The folder appears under its name only when it is complete."""
    show = tfds.enable_progress_bar if sys.stderr.isatty() else tfds.disable_progress_bar
    show()
    config = tfds.download.DownloadConfig(
        manual_dir=None if source is None else os.fspath(Path(source).absolute()), try_download_gcs=False
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where TFDS's notes belong: results go to standard output
            builder.download_and_prepare(download_config=config, download_dir=os.fspath(Path(builder.data_dir).parent))
    except OSError:
        if not is_complete(builder):  # else another process has finished the same preparation meanwhile
            raise
