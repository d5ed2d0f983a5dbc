"""List, prepare and open data sets: one file per data set beside this one, folders of your own, classes of your own.

``folder:PATH`` is a folder of images and masks (:mod:`jaxseg.data.folders`), ``my_module:Cells`` a class
(:mod:`jaxseg.data.own`); every function here takes these names too.

A data set's file offers

* ``FACTS``, a :class:`~jaxseg.data.facts.Facts`;
* ``Builder``, a TFDS builder (see :mod:`jaxseg.data.builder`) whose features are named as the keys of a record;
* ``ENCODED``, which of the features are images, and ``to_record``, which makes a record of what was read, images still
  encoded;
* ``GENERATED``, whether it makes itself on first use or needs a source folder;
* ``config(options)``, the TFDS configuration, if ``FACTS.options`` names any.

TFDS is imported when a data set is first asked for; neither preparing nor reading imports TensorFlow, JAX or torch.
"""

import contextlib
import functools
import hashlib
import importlib
import io
import os
import pkgutil
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxseg.data.facts import Facts
from jaxseg.data.origin import Origin, recall
from jaxseg.data.own import OwnRecords, facts_of, is_own, open_own
from jaxseg.data.records import Record
from jaxseg.errors import BadInput, suggest
from jaxseg.files import atomic, default_data_dir

if TYPE_CHECKING:
    from jaxseg.data.folders.records import FolderRecords

Options = tuple[tuple[str, Any], ...]

FOLDER = "folder:"
"""What the name of a folder begins with."""


def list_sets() -> list[str]:
    """Return the names of the data sets, sorted.

    >>> list_sets()[:2]
    ['ade20k', 'bccd']
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def rooted(name: str) -> str:
    """Return the name of a data set as it is good in any directory: that of a folder with its whole path.

    >>> rooted("folder:/data/cells"), rooted("camvid"), rooted("folder:cells").endswith("/cells")
    ('folder:/data/cells', 'camvid', True)
    """
    return f"{FOLDER}{Path(name.removeprefix(FOLDER)).expanduser().absolute()}" if name.startswith(FOLDER) else name


@functools.cache
def find(name: str) -> ModuleType:
    """Return the module of that data set, with ``FACTS``, ``Builder``, ``to_record`` and ``GENERATED``.

    All folders have one module, whose ``FACTS`` say nothing of any of them; classes of your own have none.

    Raises:
      BadInput: there is none of that name; the nearest are offered.

    >>> find("scenes").FACTS.classes[:3]
    ('wall', 'floor', 'ceiling')
    """
    if name.startswith(FOLDER):
        return importlib.import_module("jaxseg.data.folders.prepared")
    if name not in list_sets():
        own = "; a folder of your own is folder:PATH" if Path(name).is_dir() else suggest(name, list_sets())
        raise BadInput(f"no data set is called {name!r}{own}")
    return importlib.import_module(f"{__name__}.{name}")


def is_prepared(name: str, *, data_dir: str | os.PathLike[str] | None = None, options: Options = ()) -> bool:
    """Return True if the data set lies complete under ``data_dir``. An interrupted preparation never counts.

    >>> is_prepared("camvid", data_dir="nowhere")
    False
    """
    return not is_own(name) and (_prepared_dir(name, data_dir, options) / "dataset_info.json").is_file()


def facts(name: str, *, data_dir: str | os.PathLike[str] | None = None, options: Options = ()) -> Facts:
    """Return the facts of a data set as the options have it: those of your own annotations name their own classes.

    Args:
      name: the data set.
      data_dir: where prepared data lie; the facts of your own annotations lie beside them.
      options: the builder's options.

    Raises:
      BadInput: unknown name or option, or facts that are neither prepared nor in a file that the options name.

    >>> facts("camvid") is find("camvid").FACTS
    True
    """
    if is_own(name):
        return facts_of(name)
    return _builder(name, data_dir, options).facts() if options or name.startswith(FOLDER) else find(name).FACTS


def prepare(
    name: str,
    *,
    source: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    options: Options = (),
    again: bool = False,
) -> Path:
    """Prepare a data set: write it as array_record files, once. Does nothing when that is already done.

    The files are written into a folder beside the final one, which is renamed at the end: an interrupted
    preparation never counts as complete. In a terminal it shows a progress bar. Beside the files is kept what they
    were made from, see :func:`prepared_from`.

    Args:
      name: the data set.
      source: folder that holds the published files, for data sets that do not make themselves.
      data_dir: where to put the prepared files; the default is :func:`jaxseg.files.default_data_dir`.
      options: the builder's options, pairs of name and value.
      again: prepare anew what is prepared already; the old files serve until the new ones are complete.

    Returns:
      The folder that holds the prepared files.

    Raises:
      BadInput: unknown name or option, the source folder is missing, or its files are not what they should be; or the
        data set is prepared and its source has changed since.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prepare("scenes", data_dir=folder, options=tiny).name
    '3.0.0'
    """
    from jaxseg.data.builder import generate, generate_again, is_complete, source_of

    if is_own(name):
        raise BadInput(f"data set {name!r} is a class of your own, which is read itself: there is nothing to prepare")
    module = find(name)
    builder = _builder(name, data_dir, options)
    folder = Path(builder.data_dir)
    if name.startswith(FOLDER):
        if source is not None:
            raise BadInput(f"the source of {name!r} is the folder itself; leave --source out")
        source = builder.builder_config.path
    done = is_complete(builder)
    before = recall(folder) if done else None
    if source is None and before is not None and (again or Path(before.source).is_dir()):
        source = before.source
    if done and not again:
        if source is not None and before is not None and Path(source).is_dir():
            after = source_of(builder, Path(source))
            if after.digest != before.digest:
                raise BadInput(
                    f"data set {name!r} was prepared on {before.prepared} from {before}, but now there is {after}; "
                    f"to prepare it anew: {_command(name, os.fspath(source), options)} --again"
                )
        return folder
    if not module.GENERATED:
        if source is None:
            raise BadInput(
                f"data set {name!r} needs the folder of its published files: {_command(name, 'DIR', options)} "
                f"({module.FACTS.source})"
            )
        if not Path(source).is_dir():
            raise BadInput(f"source folder {os.fspath(source)!r} does not exist; {module.FACTS.source}")
    (generate_again if done else generate)(builder, source)
    return folder


def prepared_from(name: str, *, data_dir: str | os.PathLike[str] | None = None, options: Options = ()) -> Origin | None:
    """Return from what and when the data set was prepared; None where it is not, makes itself, or it is not known.

    >>> prepared_from("camvid", data_dir="nowhere") is None
    True
    """
    return None if is_own(name) else recall(_prepared_dir(name, data_dir, options))


def prepared_splits(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, options: Options = ()
) -> dict[str, int]:
    """Return the splits of a prepared data set with their numbers of examples; nothing where it is not prepared.

    >>> prepared_splits("camvid", data_dir="nowhere")
    {}
    """
    if not is_prepared(name, data_dir=data_dir, options=options):
        return {}
    splits = _builder(name, data_dir, options).info.splits
    return {split: info.num_examples for split, info in splits.items()}


def image_ids(
    name: str, split: str, *, data_dir: str | os.PathLike[str] | None = None, options: Options = ()
) -> np.ndarray:
    """Return i64[examples], COCO's ``image_id`` of each example of a split, for files of results.

    The row is ``index`` of a batch.

    Raises:
      BadInput: the data set is not prepared, has no such split, or knows no such numbers.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     image_ids("scenes", "val", data_dir=folder, options=tiny)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: data set 'scenes' does not store 'image_id'; ...
    """
    return np.asarray(open_split(name, split, data_dir=data_dir, options=options).column("image_id"), np.int64)


def open_split(
    name: str,
    split: str,
    *,
    keys: tuple[str, ...] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    options: Options = (),
) -> "Records | FolderRecords | OwnRecords":
    """Open a split as a sequence of records: whole, a slice (``"train[:20]"``) or several, one after the other
    (``"train+val"``). Generated sets prepare themselves; a folder is read itself unless a prepared copy is up to date.

    ``keys`` names what is wanted of a record, so that the rest need not be decoded; None is everything.

    Raises:
      BadInput: the data set is not prepared (the command that prepares it is given), or has no such split.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = open_split("scenes", "val", keys=("image",), data_dir=folder, options=tiny)
    ...     len(records), records[0]["image"].shape
    (2, (8, 8, 3))
    """
    from jaxseg.data.builder import generate, is_complete

    if is_own(name):
        return open_own(name, split, keys, options)
    module = find(name)
    builder = _builder(name, data_dir, options)
    if name.startswith(FOLDER):
        from jaxseg.data.folders.prepared import is_current
        from jaxseg.data.folders.records import open_folder

        if not is_current(builder):
            return open_folder(builder.builder_config.path, options, split, keys)
    if not is_complete(builder):
        if not module.GENERATED:
            where = "" if data_dir is None else f" --data-dir {os.fspath(data_dir)}"
            raise BadInput(
                f"data set {name!r} is not prepared under {os.fspath(builder.data_path.parent)}; "
                f"run: {_command(name, 'DIR', options)}{where}"
            )
        generate(builder, None)
    splits = builder.info.splits
    absent = [part for part in split.split("+") if part.split("[")[0] not in splits]
    if absent:
        raise BadInput(
            f"data set {name!r} has no split {absent[0]!r} as it was prepared; there are: {', '.join(sorted(splits))}. "
            f"To add one, complete the source folder and run: {_command(name, 'DIR', options)} --again"
        )
    try:
        count = splits[split].num_examples
    except ValueError:
        raise BadInput(
            f"{split!r} is not a split nor a slice of one such as 'train[:20]' or 'train[80%:]', nor a sum of those"
        ) from None
    if not count:
        raise BadInput(f"{split!r} of data set {name!r} holds no example")
    return Records(builder, split, module, keys)


class Records(Sequence[Record]):
    """Records of one split, read and decoded on access.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = open_split("scenes", "train", keys=("label",), data_dir=folder, options=tiny)
    ...     records[2]["label"].shape
    (8, 8)
    """

    def __init__(self, builder: Any, split: str, module: ModuleType, keys: tuple[str, ...] | None = None):
        import tensorflow_datasets as tfds

        facts = builder.facts() if builder.builder_config is not None else module.FACTS
        made_of = facts.made_of
        asked = set(facts.keys if keys is None else keys) & set(facts.keys)
        wanted = {part for key in asked for part in made_of.get(key, (key,))} & set(builder.info.features)
        pictures = tfds.features.Image
        self._name, self._stored = builder.name, builder.info.features
        self._encoded = tuple(
            key for key in module.ENCODED if key in self._stored and isinstance(self._stored[key], pictures)
        )
        self._folder, self._split = Path(builder.data_dir), split
        self._skipping = tfds.decode.SkipDecoding()
        self._skip = dict.fromkeys(wanted & set(self._encoded), self._skipping)
        self._features = tfds.features.FeaturesDict({key: builder.info.features[key] for key in sorted(wanted)})
        self._to_record = module.to_record
        self._examples = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        example = self._features.deserialize_example_np(self._examples[index], decoders=self._skip)
        return self._to_record(example)

    def sizes(self) -> np.ndarray:
        """Return i32[examples 2], height and width of every image; found once and kept beside the prepared files.

        >>> import tempfile
        >>> tiny = (("size", (4, 8)), ("train", 3), ("val", 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     open_split("scenes", "val", data_dir=folder, options=tiny).sizes().tolist()
        [[4, 8], [4, 8]]
        """
        digest = hashlib.sha256(self._split.encode()).hexdigest()[:8]
        path = self._folder / f"sizes_{digest}.npy"
        if path.is_file():
            found = np.load(path)
            if len(found) == len(self):
                return found
        if "original_size" in self._stored:
            found = np.asarray(self.column("original_size"), np.int32)
        else:
            found = np.asarray([_stored_size(image) for image in self.column("image")], np.int32)
        with contextlib.suppress(OSError), atomic(path) as part, part.open("wb") as file:  # it may be read-only
            np.save(file, found)
        return found

    def column(self, name: str) -> list[Any]:
        """Return one stored feature of every example, also such as are no keys of a record: ``image_id``.

        Raises:
          BadInput: the data set does not store it.

        >>> import tempfile
        >>> tiny = (("size", 8), ("train", 3), ("val", 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = open_split("scenes", "val", data_dir=folder, options=tiny)
        ...     [classes.dtype.name for classes in records.column("classes")]
        ['int32', 'int32']
        """
        if name not in self._stored:
            raise BadInput(f"data set {self._name!r} does not store {name!r}; it stores {', '.join(self._stored)}")
        feature = self._stored[name]
        features = type(self._stored)({name: feature})
        skip = {name: self._skipping} if name in self._encoded else {}
        return [features.deserialize_example_np(data, decoders=skip)[name] for data in self._examples]


def _stored_size(image: Any) -> tuple[int, int]:
    """Return height and width of an image, of an encoded one from its header."""
    if isinstance(image, np.ndarray) and image.ndim > 1:
        return image.shape[0], image.shape[1]
    with Image.open(io.BytesIO(bytes(image))) as header:
        return header.height, header.width


def _command(name: str, source: str, options: Options) -> str:
    """Return the command that prepares a data set with these options."""
    flags = "".join(f" --option {shlex.quote(f'{option}={value!r}')}" for option, value in options)
    source = "" if name.startswith(FOLDER) else f" --source {source}"
    return f"jaxseg data prepare {shlex.quote(name)}{source}{flags}"


def _prepared_dir(name: str, data_dir: str | os.PathLike[str] | None, options: Options) -> Path:
    """Return the folder of prepared files; a folder of your own is not looked at for it."""
    if not name.startswith(FOLDER):
        return Path(_builder(name, data_dir, options).data_dir)
    from jaxseg.data.folders.prepared import Prepared, config

    root = Path(data_dir) if data_dir is not None else default_data_dir()
    return root.expanduser() / Prepared.name / config(name.removeprefix(FOLDER), options).name / str(Prepared.VERSION)


def _builder(name: str, data_dir: str | os.PathLike[str] | None, options: Options) -> Any:
    root = Path(data_dir) if data_dir is not None else default_data_dir()
    if name.startswith(FOLDER):
        from jaxseg.data.folders.prepared import builder_of

        return builder_of(name.removeprefix(FOLDER), root, options)
    module = find(name)
    known = module.FACTS.options
    for option, _ in options:
        if option not in known:
            raise BadInput(f"data set {name!r} has no option {option!r}{suggest(option, known)}")
    given = {"config": module.config({**known, **dict(options)})} if known else {}
    return module.Builder(data_dir=os.fspath(root.expanduser().absolute()), file_format="array_record", **given)
