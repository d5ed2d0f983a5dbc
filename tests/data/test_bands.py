"""Images of any number of bands, from the file to the batch."""

import types

import numpy as np
import pytest
import tifffile

from jaxseg.data import Data, Facts, Source, label_files, sets
from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.builder import LocalBuilder
from jaxseg.data.records import encode_png
from jaxseg.data.statistics import measure_bands
from jaxseg.errors import BadInput

BANDS = {"uint8": 1, "uint16": 13, "float32": 4}


def values(kind, index):
    drawn = np.random.default_rng(index).uniform(0, 200, (20, 24, BANDS[kind]))
    return (drawn * (50 if kind == "uint16" else 1)).astype(kind)


@pytest.fixture(params=BANDS)
def data_set(request, tmp_path, monkeypatch):
    """A data set of four TIFFs and their masks, as one of our own would be written."""
    kind, channels = request.param, BANDS[request.param]
    facts = Facts(
        name="satellite",
        summary="s",
        classes=("land", "sea"),
        palette=((0, 0, 0), (9, 9, 9)),
        splits={"train": 4, "val": 4},
        bands=tuple(f"b{i}" for i in range(channels)),
    )
    for index in range(4):
        image = values(kind, index)
        planar = {"planarconfig": "contig"} if channels > 1 else {}
        tifffile.imwrite(
            tmp_path / f"{index}.tif", image if channels > 1 else image[..., 0], photometric="minisblack", **planar
        )
        (tmp_path / f"{index}.png").write_bytes(encode_png(np.full((20, 24), index % 2, np.uint8)))

    class Satellite(LocalBuilder, skip_registration=True):
        FACTS = facts

        def features(self):
            return label_files.features(channels, kind)

        def splits(self, source):
            return {split: (4, (self.one(source, i) for i in range(4))) for split in facts.splits}

        def one(self, source, index):
            label = label_files.label_map(source / f"{index}.png")
            return label_files.band_example(source / f"{index}.tif", label, str(index), channels=channels, dtype=kind)

    module = types.ModuleType("satellite")
    module.FACTS, module.Builder, module.GENERATED = facts, Satellite, False
    module.ENCODED, module.to_record = ("label",), label_files.to_record
    found = sets.find
    monkeypatch.setattr(sets, "find", lambda name: module if name == "satellite" else found(name))
    sets.prepare("satellite", source=tmp_path, data_dir=tmp_path / "prepared")
    return kind, tmp_path / "prepared"


def data(*transforms):
    return Data(train=Source("satellite", "train", transforms), val=Source("satellite", "val", transforms))


def test_bands_reach_the_batch_as_they_are_stored(data_set):
    kind, where = data_set
    (batch,) = data().eval_batches(batch_size=4, data_dir=where)
    assert batch["image"].dtype == kind
    np.testing.assert_array_equal(batch["image"], np.stack([values(kind, i) for i in range(4)]))
    assert batch["label"][:, 0, 0].tolist() == [0, 1, 0, 1]


def test_geometry_moves_any_bands(data_set):
    """Each band is moved as a grey image of its own would be."""
    kind, where = data_set
    chain = (T.RandomFlip(1.0), T.Resize(33, 18), T.RandomRotate(20), T.Elastic(std=2), T.RandomCrop(40, 16))
    (batch,) = data(*chain, T.MirrorPad(3)).eval_batches(batch_size=4, data_dir=where)
    assert batch["image"].shape == (4, 46, 22, BANDS[kind])
    assert batch["image"].dtype == kind
    whole = {"image": values(kind, 0)}
    for band in range(BANDS[kind]):
        alone, moved = {"image": whole["image"][..., band : band + 1]}, whole
        for transform in chain:
            alone = transform(alone, np.random.default_rng(3))
            moved = transform(moved, np.random.default_rng(3))
        np.testing.assert_array_equal(moved["image"][..., band], alone["image"][..., 0])


def test_resizing_bands_is_torchs_and_rounds_once(data_set):
    kind, _ = data_set
    torch = pytest.importorskip("torch")
    image = values(kind, 1)
    moved = T.Resize(41, 60)({"image": image}, np.random.default_rng(0))["image"]
    tensor = torch.tensor(image.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(tensor, (41, 60), mode="bilinear", align_corners=False)
    assert np.abs(moved - expected[0].permute(1, 2, 0).numpy()).max() < (1e-2 if kind == "float32" else 0.51)


@pytest.mark.parametrize("transform", [T.Photometric(saturation=0.3), T.ToGrey()], ids=str)
def test_changes_of_colour_refuse_bands_by_name(data_set, transform):
    kind, where = data_set
    rule = rf"satellite/val\[0\]: {type(transform).__name__} works on uint8 RGB, but the image has {BANDS[kind]} bands"
    with pytest.raises(BadInput, match=rule):
        next(iter(data(transform).eval_batches(batch_size=4, data_dir=where)))


def test_statistics_of_bands_are_numpys_over_all_pixels(data_set):
    kind, where = data_set
    found = measure_bands(sets.open_split("satellite", "train", keys=("image",), data_dir=where))
    everything = np.concatenate([values(kind, i).reshape(-1, BANDS[kind]) for i in range(4)]).astype(np.float64)
    np.testing.assert_allclose(found.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, everything.std(0), rtol=1e-12)
    np.testing.assert_array_equal(found.low, everything.min(0))
    np.testing.assert_array_equal(found.high, everything.max(0))
    assert found.pixels == len(everything)


def test_statistics_keep_their_digits_far_from_zero():
    image = 1e6 + np.random.default_rng(0).uniform(0, 1, (50, 50, 2))
    found = measure_bands([{"image": image[:20]}, {"image": image[20:]}])
    np.testing.assert_allclose(found.std, image.std((0, 1)), rtol=1e-9)
    with pytest.raises(BadInput, match="no image to measure"):
        measure_bands([])
    with pytest.raises(BadInput, match="2 and 3 bands"):
        measure_bands([{"image": image}, {"image": np.zeros((2, 2, 3))}])


def test_wider_values_than_the_data_set_keeps_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 6, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    label = np.zeros((4, 6), np.uint8)
    with pytest.raises(BadInput, match=r"a.tif holds uint16, which does not fit uint8"):
        label_files.band_example(tmp_path / "a.tif", label, "a", channels=5)
    with pytest.raises(BadInput, match=r"a.tif has 5 bands, not 4"):
        label_files.band_example(tmp_path / "a.tif", label, "a", channels=4, dtype="uint16")
    with pytest.raises(BadInput, match=r"a.tif is 6x4 but its label is 4x6"):
        label_files.band_example(tmp_path / "a.tif", label.T, "a", channels=5, dtype="uint16")


def test_the_batch_is_held_to_the_data_sets_number_of_bands(data_set, monkeypatch):
    _, where = data_set

    class Drop:
        def __call__(self, record, rng):
            return {**record, "image": np.concatenate([record["image"]] * 2, -1)}

    with pytest.raises(BadInput, match=r"'image' is .* but axis 'c' should be"):
        next(iter(data(Drop()).eval_batches(batch_size=4, data_dir=where)))
