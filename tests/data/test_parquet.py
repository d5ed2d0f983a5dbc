"""Data sets of the Hub in parquet, as the library ``datasets`` writes them: structs of bytes and path."""

from pathlib import Path

import numpy as np
import pytest

from jaxseg.data.folders import parquet
from jaxseg.data.folders.item import OPTIONS
from jaxseg.data.records import decode_image, encode_png
from jaxseg.errors import BadInput

pyarrow = pytest.importorskip("pyarrow")
write_table = pytest.importorskip("pyarrow.parquet").write_table


def hub(root: Path, *, names=("image", "mask"), count: int = 5, values=(0, 1), group: int = 2) -> Path:
    (root / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        rows = {name: [] for name in names}
        for number in range(count):
            image = np.full((4, 6, 3), number, np.uint8)
            mask = np.full((4, 6), values[number % len(values)], np.uint8)
            for name, pixels in zip(names, (image, mask), strict=True):
                rows[name].append({"bytes": encode_png(pixels), "path": f"{split}_{number}.png"})
        rows["width"] = [6] * count
        write_table(pyarrow.table(rows), root / "data" / f"{split}-00000-of-00001.parquet", row_group_size=group)
    return root


def test_rows_are_images_with_masks_in_their_splits(tmp_path):
    found = parquet.read(hub(tmp_path), OPTIONS)
    assert parquet.recognises(tmp_path)
    assert [item.split for item in found.items] == ["train"] * 5 + ["val"] * 5
    assert [item.name for item in found.items][3:6] == ["train_3", "train_4", "validation_0"]
    assert [int(decode_image(item.image())[0, 0, 0]) for item in found.items] == [0, 1, 2, 3, 4] * 2
    assert [int(item.label()[0, 0]) for item in found.items[:5]] == [0, 1, 0, 1, 0]


def test_id2label_names_the_classes(tmp_path):
    hub(tmp_path, values=(0, 3))
    (tmp_path / "id2label.json").write_text('{"0": "wall", "3": "door"}')
    found = parquet.read(tmp_path, OPTIONS)
    assert found.classes == ("wall", "door")
    assert int(found.items[1].label()[0, 0]) == 1


@pytest.mark.parametrize(
    ("made", "options", "line"),
    [
        ({"names": ("image", "depth_of")}, {"masks": "deepth_of"}, "no column of images 'deepth_of'.*depth_of"),
        ({"names": ("first", "second")}, {}, "columns first, second, width, none of which is known as images; name"),
    ],
)
def test_columns_are_not_guessed(made, options, line, tmp_path):
    with pytest.raises(BadInput, match=line):
        parquet.read(hub(tmp_path, **made), {**OPTIONS, **options})


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(BadInput, match=r"train.parquet is no parquet that can be read"):
        parquet.read(tmp_path, OPTIONS)
