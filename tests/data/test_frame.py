"""A frame says where the pixels of an image went: the inverse of what validation does to it stands on that."""

import numpy as np
import pytest

from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.errors import BadInput

CHAINS = {
    "resize": (T.Resize(30, 70),),
    "within": (T.ResizeWithin(64, 32),),
    "cut": (T.CentreCrop(24, 31),),
    "cut and padded": (T.CentreCrop(25, 81),),
    "pad": (T.PadTo(64, 80),),
    "multiple": (T.PadToMultiple(32),),
    "mirror": (T.MirrorPad(7),),
    "all": (T.ResizeWithin(96, 64), T.MirrorPad(3), T.PadToMultiple(32), T.CentreCrop(70, 70), T.Resize(35, 105)),
    "none": (),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_frame_sends_points_and_boxes_where_the_transforms_send_them(chain):
    rng = np.random.default_rng(0)
    height, width = 40, 57
    points = np.concatenate([rng.uniform((25, 17), (33, 22), (9, 2)), np.full((9, 1), 2)], -1)  # near the middle, x y v
    boxes = np.concatenate([points[:4, :2], points[5:9, :2]], 1).astype(np.float32)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    record = {
        "image": np.zeros((height, width, 3), np.uint8),
        "keypoints": points[None].astype(np.float32),
        "boxes": boxes,
    }
    for transform in CHAINS[chain]:
        record = transform(record, rng)
    frame = T.frame_of(CHAINS[chain], height, width)
    assert frame.size == record["image"].shape[:2]
    scale, offset = np.asarray(frame.scale)[::-1], np.asarray(frame.offset)[::-1]
    np.testing.assert_allclose(record["keypoints"][0, :, :2], points[:, :2] * scale + offset, rtol=1e-5)
    np.testing.assert_allclose(record["boxes"], boxes * np.tile(scale, 2) + np.tile(offset, 2), rtol=1e-5)


def test_what_is_random_or_colours_has_no_frame():
    for transform in (T.RandomFlip(), T.RandomCrop(3, 3), T.ToGrey(), T.Elastic()):
        assert not isinstance(transform, T.Geometric)
        with pytest.raises(BadInput, match="is not deterministic geometry"):
            T.frame_of((transform,), 4, 4)


def test_a_frame_refuses_what_its_transform_refuses():
    with pytest.raises(BadInput, match=r"40x57 does not fit PadTo\(32, 64\)"):
        T.frame_of((T.PadTo(32, 64),), 40, 57)
    with pytest.raises(BadInput, match="more than 9 pixels a side"):
        T.frame_of((T.MirrorPad(9),), 9, 20)
