"""Every kind of file gives the arrays that were written, by the names that they were written under."""

import json
import pickle

import ml_dtypes
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.readers import read
from tests.shared_data import weights_or_skip

RNG = np.random.default_rng(0)


def same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def arrays():
    rng = np.random.default_rng(1)
    return {
        "conv.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "conv.half": rng.normal(size=(5,)).astype(np.float16),
        "conv.brain": rng.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
        "steps": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }


def test_safetensors(tmp_path):
    from safetensors.numpy import save_file

    plain = {name: value for name, value in arrays().items() if name != "conv.brain"}
    save_file(plain, tmp_path / "a.safetensors")
    found = read(tmp_path / "a.safetensors")
    same(dict(sorted(found.items())), dict(sorted(plain.items())))
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.safetensors").rename(tmp_path / "folder" / "part-1.safetensors")
    save_file({"other": plain["steps"]}, tmp_path / "folder" / "part-2.safetensors")
    index = {"weight_map": {**dict.fromkeys(plain, "part-1.safetensors"), "other": "part-2.safetensors"}}
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read(tmp_path / "folder")) == {*plain, "other"}


def test_npz(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", note=np.array("a sentence"), turned=np.asfortranarray(np.eye(3, 4)), **arrays())
        same(read(tmp_path / "a.npz"), {"turned": np.eye(3, 4), **arrays()})


def torch_tree(torch):
    """Tensors that share a storage, are turned, cut, expanded, of half precision, parameters; beside other things."""
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "whole": base,
        "part": base[4:16].reshape(3, 4),
        "turned": base.reshape(4, 6).t(),
        "every_other": base[1::2],
        "repeated": torch.ones(1, 3).expand(5, 3),
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(3, 2).bfloat16(),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "scalar": torch.tensor(3),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }
    return state, {
        "epoch": 3,
        "best": torch.tensor(0.5),
        "shape": torch.Size([1, 2]),
        "kind": torch.float16,
        "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "state_dict": {f"module.{name}": value for name, value in state.items()},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_torch(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    state, tree = torch_tree(torch)
    torch.save(tree, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.pth")
    expected = {name: value.detach() for name, value in state.items()}
    assert found["brain"].dtype == ml_dtypes.bfloat16
    same(
        {name: value.astype(np.float32) if name == "brain" else value for name, value in found.items()},
        {name: (value.float() if name == "brain" else value).numpy() for name, value in expected.items()},
    )
    assert np.shares_memory(found["whole"], found["part"])


def test_a_module_s_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    torch.save(module.state_dict(), tmp_path / "a.pth")
    same(read(tmp_path / "a.pth"), {name: value.numpy() for name, value in module.state_dict().items()})
    torch.save(module, tmp_path / "whole.pth")
    with pytest.raises(BadInput, match=r"torch\.nn\.modules\.container\.Sequential.*state_dict"):
        read(tmp_path / "whole.pth")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_detectron(tmp_path, protocol):
    blobs = {"conv1_w": RNG.normal(size=(3, 2)).astype(np.float32), "conv1_b": RNG.normal(size=3)}
    blobs["turned"] = np.asfortranarray(RNG.normal(size=(3, 2)))
    extra = {"conv1_w_momentum": np.zeros(2), "lr": np.float64(0.5)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": {**blobs, **extra}, "cfg": "text"}, protocol=protocol))
    same(read(tmp_path / "a.pkl"), blobs)


def test_keras(tmp_path):
    h5py = pytest.importorskip("h5py", reason="Keras files are read through h5py")
    kernel = RNG.normal(size=(3, 3, 2, 4)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("model_weights/conv/conv/kernel:0", data=kernel, compression="gzip")
        file.create_dataset("optimizer_weights/momentum", data=kernel)
    same(read(tmp_path / "a.h5"), {"conv.kernel": kernel})
    with h5py.File(tmp_path / "b.weights.h5", "w") as file:
        file.create_dataset("layers/conv/vars/0", data=kernel)
        file.create_dataset("optimizer/vars/0", data=kernel)
    same(read(tmp_path / "b.weights.h5"), {"layers.conv.vars.0": kernel})
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["conv"] = h5py.ExternalLink(str(tmp_path / "a.h5"), "/model_weights")
    with pytest.raises(BadInput, match="'conv' leads elsewhere"):
        read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("bomb", (1 << 34,), np.float32, chunks=(1 << 20,), compression="gzip")
    with pytest.raises(BadInput, match="unfold into far more"):
        read(tmp_path / "d.h5")


def test_keras_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(BadInput, match="pip install h5py"):
        read(tmp_path / "a.h5")


REAL = [
    ("enet_camvid", "enet_camvid_250_recal.pth", "enet_camvid_250_recal.npz", 590),
    ("espnet_camvid", "espnet_p_2_q_8_camvid.pth", "weights.npz", 189),
    ("mobilenetv1_025_imagenet", "model_best.pth.tar", "weights.npz", 164),
]


@pytest.mark.parametrize(("folder", "torch_file", "npz", "count"), REAL, ids=[row[0] for row in REAL])
def test_published_files_equal_their_npz(folder, torch_file, npz, count):
    """Both formats of torch's own, trained by others, without torch."""
    root = weights_or_skip(folder)
    found, expected = read(root / torch_file), read(root / npz)
    assert len(found) == count
    same(dict(sorted(found.items())), dict(sorted(expected.items())))


def test_a_published_keras_file():
    pytest.importorskip("h5py", reason="Keras files are read through h5py")
    found = read(weights_or_skip("retina_unet_drive") / "test_best_weights.h5")
    assert found["convolution2d_1.convolution2d_1_W"].shape == (32, 1, 3, 3)
    assert sum(value.size for value in found.values()) == 471_010  # the eleven convolutions of the README's table
