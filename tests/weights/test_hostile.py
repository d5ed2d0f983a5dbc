"""Files that mean harm, and files that came to harm: one line each, nothing run, nothing written, no other error."""

import io
import os
import pickle
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.readers import read
from tests.weights.test_readers_caffe import blob, layer
from tests.weights.test_readers_tflite import plain, tflite

torch = pytest.importorskip("torch", reason="the files to be spoilt are torch's (extra 'parity')")

FUZZ = int(os.environ.get("JAXSEG_FUZZ", "400"))
"""Spoilt copies of each file."""


class Harm:
    """Pickles to a call of ``os.system``."""

    def __reduce__(self):
        return os.system, ("touch harm",)


def refused(path, *words):
    with pytest.raises(BadInput) as error:
        read(path)
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    assert not (path.parent / "harm").exists()


def pickled(value):
    return pickle.dumps(value, protocol=2)


def archive(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_calls_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (Harm(), {"weight": torch.zeros(2), "state": [Harm()]}):
        torch.save(value, "a.pth")
        refused(tmp_path / "a.pth", "'posix.system'", "nothing was run")
        torch.save(value, "b.pth", _use_new_zipfile_serialization=False)
        refused(tmp_path / "b.pth", "'posix.system'")
    for protocol in range(6):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": Harm()}, protocol=protocol))
        refused(tmp_path / "a.pkl", "posix")
    # what Python's machine would call without the instruction REDUCE
    for program in (
        b"(S'touch harm'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch harm'\no.",
        b"\x80\x02cos\nsystem\n)\x81.",
    ):
        (tmp_path / "a.pkl").write_bytes(program)
        refused(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",  # an array of objects
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncos\nsystem\nU\x01x\x86R.",
        b"\x80\x02cbuiltins\ndict\n)R.",  # mentioned, never called
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02}q\x00(U\x01aj\xff\xff\xff\x7fu.",  # a memo that is not there
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x02}((U\x01at\x85K\x01u.",  # a tuple as a key
        b"\x80\x02]q\x00h\x00a.",  # a list inside itself
        b"\x80\x02" + b"]" * 3000 + b"a" * 2999 + b".",  # lists inside lists
        b"\x80\x02U\x00\x85q\x00" + b"".join(b"h%c0h%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b".",
        b"\x80\x02]q\x00K\x01a" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b".",  # 2**60 leaves
        b"\x80\x02cos\nsystem\n.",
    ],
)
def test_programs_that_are_no_weights(tmp_path, program):
    (tmp_path / "a.pkl").write_bytes(program)
    refused(tmp_path / "a.pkl")


def test_bombs(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        members = {name: good.read(name) for name in good.namelist()}
    many = {**members, "good/data/9": bytes(50 << 20)}
    archive(tmp_path / "a.pth", many, compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "a.pth", "would unfold")
    archive(tmp_path / "b.pth", members, compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "b.pth", "is compressed")
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(50 << 20, np.uint8))
    refused(tmp_path / "a.npz", "would unfold")
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "c.pth")
    refused(tmp_path / "c.pth", "fill the memory")


def test_names_that_lead_elsewhere(tmp_path):
    for name in ("../harm.npy", "/harm.npy", "a/../../harm.npy", "..\\harm.npy"):
        archive(tmp_path / "a.npz", {name: npy(np.zeros(2))})
        refused(tmp_path / "a.npz", "leads elsewhere")
    torch.save({"w": torch.zeros(2)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        members = {name: good.read(name) for name in good.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = members[name].replace(b"X\x01\x00\x00\x000", b"X\x04\x00\x00\x00../x")
    archive(tmp_path / "a.pth", members)
    refused(tmp_path / "a.pth", "'../x' is not in the file")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    refused(tmp_path / "model.safetensors.index.json", "leads elsewhere")


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_numbers_that_are_none(tmp_path):
    torch.save({"fine": torch.zeros(2), "bad": torch.tensor([1.0, float("nan")])}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "1 of the 2 numbers of 'bad' are not finite")
    np.savez(tmp_path / "a.npz", a=np.array([np.inf]))
    refused(tmp_path / "a.npz", "not finite")
    np.savez(tmp_path / "b.npz", a=np.array([Harm()], dtype=object))
    refused(tmp_path / "b.npz", "Python objects")
    np.savez(tmp_path / "c.npz", a=np.array([1j]))
    refused(tmp_path / "c.npz", "real numbers")


def test_no_files_of_weights(tmp_path):
    refused(tmp_path / "absent.pth", "there is no file")
    refused(tmp_path, "holds no weights")
    for name, data in {"a.pth": b"", "b.png": b"\x89PNG\r\n", "c.tar": bytes(257) + b"ustar" + bytes(300)}.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)


def test_tensors_beyond_their_storage(tmp_path):
    """torch itself never writes these: the pickle's numbers are changed."""
    torch.save({"w": torch.zeros(200, 3)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        members = {name: good.read(name) for name in good.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    assert members[name].count(b"K\xc8K\x03\x86") == 1
    for numbers in (b"K\xc9K\x03\x86", b"K\xc8K\x04\x86", b"K\xc8\x85", b"K\xc8J\xff\xff\xff\xff\x86", b"K\xc8N\x86"):
        archive(tmp_path / "a.pth", {**members, name: members[name].replace(b"K\xc8K\x03\x86", numbers)})
        refused(tmp_path / "a.pth")


def spoilt(rng, data):
    """A copy with bytes changed, cut out, doubled, or cut short."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at : at + rng.randrange(1, 9)]
            case 3:
                data[at:at] = data[at : at + rng.randrange(1, 9)]
            case 4:
                data[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20)))
        if not data:
            return b""
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)


def with_new_checksums(data):
    """The members of a spoilt archive packed anew, so that what was spoilt gets past the checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = {info.filename: data[info.header_offset + 30 + len(info.filename) :] for info in old.infolist()}
            members = {info.filename: members[info.filename][: info.file_size] for info in old.infolist()}
        file = io.BytesIO()
        archive(file, members)
    except Exception:  # too far gone to be packed anew
        return data
    return file.getvalue()


def seeds(tmp_path):
    """Small good files of every kind that is read without a library of C."""
    tree = {"state_dict": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}, "epoch": 3}
    torch.save(tree, tmp_path / "a.pth")
    torch.save(tree, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "a.npz", a=np.eye(2, dtype=np.float32))
    np.savez_compressed(tmp_path / "b.npz", a=np.arange(9.0))
    (tmp_path / "a.pkl").write_bytes(pickled({"model": {"a": np.eye(2), "b": np.float32(1)}}))
    (tmp_path / "a.caffemodel").write_bytes(layer("a", "Convolution", blob(np.ones((1, 2, 1, 1))), blob([1.0])))
    from safetensors.numpy import save_file

    save_file({"a": np.eye(2, dtype=np.float32)}, tmp_path / "a.safetensors")
    scaled = (9, (2, 2), bytes(4), (0.5, 1), (0, 1), 0)
    (tmp_path / "a.tflite").write_bytes(tflite({"a": plain(np.eye(2, dtype=np.float32), 0), "b": scaled}))
    return sorted(path for path in tmp_path.iterdir())


def refusal(path):
    """Why the file is refused, or "" if it is read; any other error is a fault."""
    try:
        found = read(path)
    except BadInput as error:
        return str(error)
    assert all(isinstance(value, np.ndarray) for value in found.values())
    return ""


def test_spoilt_files_give_the_documented_error_or_arrays(tmp_path):
    """Thousands of mutations of tiny files; every file that is refused is refused in one line."""
    rng = random.Random(0)
    (tmp_path / "good").mkdir()
    (tmp_path / "spoilt").mkdir()
    lines = []
    for good in seeds(tmp_path / "good"):
        original = good.read_bytes()
        assert read(good)
        for turn in range(FUZZ):
            data = spoilt(rng, original)
            if turn % 2 and good.suffix in (".pth", ".npz") and data[:2] == b"PK":
                data = with_new_checksums(data)
            path = tmp_path / "spoilt" / good.name
            path.write_bytes(data)
            lines.append(refusal(path))
            path.unlink()
    refusals = [line for line in lines if line]
    assert not [line for line in refusals if "\n" in line]
    assert len(refusals) > FUZZ * 2
    assert not list((tmp_path / "spoilt").iterdir())


def test_the_checksum_is_looked_at(tmp_path):
    torch.save({"w": torch.zeros(64)}, tmp_path / "a.pth")
    data = bytearray((tmp_path / "a.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.pth") as file:
        info = next(info for info in file.infolist() if info.filename.endswith("data/0"))
    begin = data.index(bytes(256), info.header_offset)
    data[begin + 10] ^= 1
    assert zlib.crc32(bytes(data[begin : begin + 256])) != info.CRC
    (tmp_path / "a.pth").write_bytes(data)
    refused(tmp_path / "a.pth", "damaged (checksum)")
