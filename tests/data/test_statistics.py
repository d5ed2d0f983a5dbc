"""Class counts and the weights made of them, by hand and on the real training set."""

import json

import numpy as np

from jaxseg.data import sets
from jaxseg.data.sets import camvid
from jaxseg.data.statistics import count_classes
from jaxseg.losses import median_frequency
from tests.shared_data import shared_data


def test_counts_and_both_weights_by_hand():
    labels = [[[0, 0, 0, 1]], [[0, 255, 255, 2]], [[0, 0, 0, 0]]]
    counts = count_classes([{"label": np.asarray(label, np.uint8)} for label in labels], 4)
    assert counts.pixels.tolist() == [8, 1, 1, 0]
    assert counts.void == 2
    assert counts.images.tolist() == [3, 1, 1, 0]
    assert counts.around.tolist() == [12, 4, 4, 0]
    assert np.allclose(counts.fractions, np.asarray([8, 1, 1, 0]) / 12)
    # freq = 8/12, 1/4, 1/4: median 1/4; and 8/12, 1/12, 1/12: median 1/12. A class never seen weighs nothing.
    assert np.allclose(median_frequency(counts.pixels, counts.around), [3 / 8, 1, 1, 0])
    assert np.allclose(median_frequency(counts.pixels), [1 / 8, 1, 1, 0])


def test_camvids_weights_are_those_of_its_annotations(tmp_path):
    source = shared_data("camvid")
    stats = json.loads((source / "stats.json").read_text())
    sets.prepare("camvid", source=source, data_dir=tmp_path)
    for split in ("train", "val"):
        expected = stats[split]
        counts = count_classes(sets.open_split("camvid", split, keys=("label",), data_dir=tmp_path), 11)
        assert [*counts.pixels.tolist(), counts.void] == expected["pixels"]
        assert counts.images.tolist() == expected["images_with_class"][:11]
        assert np.allclose(counts.fractions, expected["fraction"][:11], atol=5e-7)
        assert np.allclose(median_frequency(counts.pixels, counts.around), expected["median_freq_weight"], atol=5e-5)
        if split == "train":
            for name, images in (("median_frequency", counts.around), ("median_frequency_all", None)):
                assert np.allclose(median_frequency(counts.pixels, images), camvid.FACTS.weights[name], atol=5e-5)
