"""Transforms of records: ``transforms.RandomFlip()``, ``transforms.RandomCrop(360, 480)`` and so on.

A transform is a frozen dataclass with ``__call__(record, rng) -> record``: it never changes the record it is given, and
draws everything random from ``rng``, so that an example depends on nothing but the seed and its index. Geometry moves
the whole record: image (bilinear), label and the other maps (nearest), boxes, instance ids, keypoints, depth, normals.
What comes from outside the image is black there, void in the label, and marked invalid in the masks.

Boxes move as they are annotated, tight or not, and are clipped. Only where a crop cuts an object, and after a turn or a
deformation, a box is fitted to the object's remaining pixels, if the record has ``instance_ids``. ``area`` and ``rle``
stay: they are of the image as it was read.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from jaxseg.data.records import Record
from jaxseg.data.transforms.balanced import BalancedCrop
from jaxseg.data.transforms.canvas import Canvas
from jaxseg.data.transforms.color import ColorHints, RequireColor
from jaxseg.data.transforms.darknet import RandomHSV, RandomJitter
from jaxseg.data.transforms.frame import Frame, Geometric, frame_of
from jaxseg.data.transforms.geometry import (
    CentreCrop,
    LargeScaleJitter,
    MirrorPad,
    PadTo,
    PadToMultiple,
    RandomCrop,
    RandomFlip,
    RandomRotate90,
    RandomScale,
    RandomZoom,
    Resize,
    ResizeShort,
    ResizeWithin,
)
from jaxseg.data.transforms.objects import CropObject, CropProposal
from jaxseg.data.transforms.photometric import Photometric, ToGrey
from jaxseg.data.transforms.proposals import ProposalsFrom, SelectiveSearch
from jaxseg.data.transforms.ssd import IouCrop, PhotometricDistort, ResizeByAny, ZoomOut
from jaxseg.data.transforms.targets import MapsOfLabel, SeparationWeights
from jaxseg.data.transforms.warp import Elastic, RandomRotate


@runtime_checkable
class Transform(Protocol):
    """Protocol of transforms."""

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the transformed record; do not change the argument."""
        ...


__all__ = [
    "BalancedCrop",
    "Canvas",
    "CentreCrop",
    "ColorHints",
    "CropObject",
    "CropProposal",
    "Elastic",
    "Frame",
    "Geometric",
    "IouCrop",
    "LargeScaleJitter",
    "MapsOfLabel",
    "MirrorPad",
    "PadTo",
    "PadToMultiple",
    "Photometric",
    "PhotometricDistort",
    "ProposalsFrom",
    "RandomCrop",
    "RandomFlip",
    "RandomHSV",
    "RandomJitter",
    "RandomRotate",
    "RandomRotate90",
    "RandomScale",
    "RandomZoom",
    "RequireColor",
    "Resize",
    "ResizeByAny",
    "ResizeShort",
    "ResizeWithin",
    "SelectiveSearch",
    "SeparationWeights",
    "ToGrey",
    "Transform",
    "ZoomOut",
    "frame_of",
]
