"""Zip archives as written by PyTorch, NumPy and Keras, with a limit on decompressed size (guards against zip bombs)."""

import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

RATIO = 200
"""Limit on the decompressed size, as a multiple of the file's (guards against zip bombs); weights hardly shrink."""

FREE = 1 << 24
"""Bytes that every file may unfold to, whatever its size."""


def checked_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> np.savez(path, kernel=np.ones(2), bias=np.ones(1))
    >>> with zipfile.ZipFile(path) as archive:
    ...     sorted(checked_members(archive, path))
    ['bias.npy', 'kernel.npy']

    Raises:
      BadInput: a name points elsewhere or occurs twice, or the decompressed size is far larger than the file.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or "\0" in info.orig_filename or ":" in parts[:1]:
            raise BadInput(f"it holds a member that leads elsewhere: {name[:80]!r}")
        if name in members:
            raise BadInput(f"it holds {name[:80]!r} twice")
        if info.flag_bits & 1:
            raise BadInput("it is encrypted")
        members[name] = info
    size, total = path.stat().st_size, sum(info.file_size for info in members.values())
    if total > RATIO * size + FREE:
        raise BadInput(f"its {size:,} bytes would unfold into {total:,}: more than weights ever do")
    return members


def mapped(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    """Return an uncompressed member as a view of the file, u8[n].

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> with zipfile.ZipFile(path, "w") as archive:
    ...     archive.writestr("data/0", bytes([1, 2, 3]))
    >>> mapped(path, archive.getinfo("data/0")).tolist()
    [1, 2, 3]

    Raises:
      BadInput: it is compressed, exceeds the file, or its checksum is wrong.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise BadInput(f"its member {info.filename[:80]!r} is compressed, which torch never does")
    if info.file_size == 0:
        return np.zeros(0, np.uint8)
    whole: Any = np.memmap(path, np.uint8, "r")
    header = bytes(whole[info.header_offset : info.header_offset + 30])
    signature, name, extra = struct.unpack("<4s22xHH", header)
    begin = info.header_offset + 30 + name + extra
    if signature != b"PK\x03\x04" or begin + info.file_size > whole.size:
        raise BadInput(f"its member {info.filename[:80]!r} leads beyond the file")
    found = whole[begin : begin + info.file_size]
    if zlib.crc32(found) != info.CRC:
        raise BadInput(f"its member {info.filename[:80]!r} is damaged (checksum)")
    return found
