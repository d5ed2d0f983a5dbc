"""TFLite's files against files that flatbuffers' own builder writes by the schema."""

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.readers import read
from tests.shared_data import weights_or_skip

flatbuffers = pytest.importorskip("flatbuffers")


def table(builder, fields):
    """A table of (slot, kind, value): numbers in place, strings, vectors and tables by reference; absent if None."""
    builder.StartObject(1 + max((slot for slot, _, _ in fields), default=0))
    for slot, kind, value in fields:
        if kind == "ref":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "byte":
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUint32Slot(slot, value, 0)
    return builder.EndObject()


def offsets(builder, entries):
    builder.StartVector(4, len(entries), 4)
    for entry in reversed(entries):
        builder.PrependUOffsetTRelative(entry)
    return builder.EndVector()


def tflite(tensors, *, graphs=1):
    """A model of constants: name -> (TensorType, shape, bytes, scales, zeros, axis)."""
    builder = flatbuffers.Builder(1024)
    buffers, made = [table(builder, [])], []
    for number, (name, (code, shape, data, scales, zeros, axis)) in enumerate(tensors.items(), 1):
        vector = builder.CreateByteVector(data)
        buffers.append(table(builder, [(0, "ref", vector)]))
        title, sizes = builder.CreateString(name), builder.CreateNumpyVector(np.asarray(shape, np.int32))
        fields = [(0, "ref", sizes), (1, "byte", code), (2, "uint", number), (3, "ref", title)]
        if scales is not None:
            scale = builder.CreateNumpyVector(np.asarray(scales, np.float32))
            zero = builder.CreateNumpyVector(np.asarray(zeros, np.int64))
            fields.append((4, "ref", table(builder, [(2, "ref", scale), (3, "ref", zero), (6, "uint", axis)])))
        made.append(table(builder, fields))
    computed = builder.CreateString("computed")
    made.append(table(builder, [(2, "uint", 0), (3, "ref", computed)]))
    graph = table(builder, [(0, "ref", offsets(builder, made))])
    parts = [(0, "uint", 3), (2, "ref", offsets(builder, [graph] * graphs)), (4, "ref", offsets(builder, buffers))]
    builder.Finish(table(builder, parts), file_identifier=b"TFL3")
    return bytes(builder.Output())


def plain(array, code):
    return code, array.shape, array.tobytes(), None, None, 0


def test_constants_come_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "conv/Kernel": rng.normal(size=(4, 3, 3, 2)).astype(np.float32),
        "conv/Bias": rng.normal(size=4).astype(np.float16),
        "steps": np.array([3, 4], np.int32),
    }
    kinds = zip(arrays.items(), (0, 1, 2), strict=True)
    (tmp_path / "a.tflite").write_bytes(tflite({name: plain(value, code) for (name, value), code in kinds}))
    found = read(tmp_path / "a.tflite")
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_integers_with_a_scale_are_real(tmp_path):
    whole = np.arange(-6, 6, dtype=np.int8).reshape(3, 2, 2)
    scales, zeros = np.float32([0.5, 0.25, 2]), np.array([0, 1, -2])
    tensors = {
        "each": (9, whole.shape, whole.tobytes(), scales, zeros, 0),
        "all": (9, whole.shape, whole.tobytes(), scales[:1], zeros[1:2], 0),
    }
    (tmp_path / "a.tflite").write_bytes(tflite(tensors))
    found = read(tmp_path / "a.tflite")
    along = (3, 1, 1)
    np.testing.assert_allclose(found["each"], (whole - zeros.reshape(along)) * scales.reshape(along), rtol=1e-6)
    np.testing.assert_allclose(found["all"], (whole.astype(int) - 1) * 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({"a": (0, (3, 3), bytes(35), None, None, 0)}, {}, r"shape \[3, 3\] does not have 35 bytes"),
        ({"a": (0, (-1, -9), bytes(36), None, None, 0)}, {}, "does not have 36 bytes"),
        ({"a": (0, (1,) * 9, bytes(4), None, None, 0)}, {}, "an array of 9 axes"),
        ({"a": (8, (1,), bytes(8), None, None, 0)}, {}, "TFLite's type 8"),
        ({"a": (9, (4,), bytes(4), (1, 2), (0, 0), 0)}, {}, "has 2 scales along axis 0"),
        ({"a": (9, (4,), bytes(4), (1, 2), (0, 0), 7)}, {}, "has 2 scales along axis 7"),
        ({"a": (0, (1,), bytes(4), None, None, 0)}, {"graphs": 2}, "holds 2 graphs"),
        ({}, {}, "holds no arrays"),
    ],
)
def test_what_is_refused(tmp_path, tensors, options, message):
    (tmp_path / "a.tflite").write_bytes(tflite(tensors, **options))
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "a.tflite")


def test_published_files():
    folder = weights_or_skip("mediapipe_hair")
    assert len(read(folder / "hair_segmentation.tflite")) == 346
    assert read(folder / "selfie_segmentation.tflite")
    quantised = weights_or_skip("mobilenetv1_025_imagenet") / "mobilenet_v1_0.75_192_quant.tflite"
    assert all(value.dtype == np.float32 for name, value in read(quantised).items() if "weights" in name)
