"""Depth Anything (Yang et al. 2024, arXiv:2401.10891) and its second version (Yang et al. 2024, arXiv:2406.09414).

DPT's decoder on DINOv2: the first reads the last four blocks of the transformer, the second every third one. Class
tokens are left out, and each fusion leads to the size of the next map, so that any multiple of 14 pixels fits. Both
give inverse depth up to scale and shift; fine-tuned on metres they end in a sigmoid times the largest depth.
"""

from functools import partial

import jax.numpy as jnp

from jaxseg.backbones import vit
from jaxseg.backbones.vit_blocks import dinov2_blocks
from jaxseg.errors import pick
from jaxseg.layers.standardize import Standardize
from jaxseg.models.depth.dpt import DPT, neck_names
from jaxseg.registry import register
from jaxseg.types import Rules

VARIANTS: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "small": ((48, 96, 192, 384), 64),
    "base": ((96, 192, 384, 768), 128),
}
"""Channels of the reassembled maps and of the decoder."""

BLOCKS: dict[str, tuple[int, int, int, int]] = {"v1": (8, 9, 10, 11), "v2": (2, 5, 8, 11)}
"""The blocks of DINOv2 that the decoder reads."""


def depth_anything(
    version: str,
    variant: str,
    *,
    max_depth: float = 0.0,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DPT:
    """Return version "v1" or "v2", "small" or "base".

    >>> depth_anything("v2", "small").backbone.out_blocks
    (2, 5, 8, 11)

    Args:
      version: of the paper.
      variant: of DINOv2.
      max_depth: metres of the largest depth, 20 indoors and 80 outdoors in the published fine-tunings; 0 for inverse
        depth.
      in_channels: of the image.
      standardize: statistics of the input; ImageNet's by default.
      dtype: compute dtype.

    Raises:
      BadInput: another version or variant.
    """
    widths, features = pick(VARIANTS, variant, "Depth Anything")
    blocks = pick(BLOCKS, version, "version of Depth Anything")
    backbone = dinov2_blocks(variant, blocks, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return DPT(
        backbone=backbone,
        widths=widths,
        features=features,
        readout=False,
        by_stride=False,
        max_depth=max_depth,
        dtype=dtype,
    )


TRANSFORMERS_NAMES: Rules = (
    *((rf"backbone\.{name}", path and f"backbone/{path}") for name, path in vit.DINOV2_NAMES),
    *neck_names(),
    *(
        (rf"head\.conv{i}\.{leaf}", f"head{i}/{ours}")
        for i in (1, 2, 3)
        for leaf, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
)
"""Rules from ``DepthAnythingForDepthEstimation`` of transformers, of both versions, in files and in memory."""

_HEAD, _LEAVES = r"depth_head\.scratch\.", (("weight", "kernel"), ("bias", "bias"))

AUTHORS_NAMES: Rules = (
    (rf"{_HEAD}refinenet4\.resConfUnit1\..*", None),
    *((rf"pretrained\.{name}", path and f"backbone/{path}") for name, path in vit.TIMM_NAMES),
    *(
        (rf"depth_head\.{theirs}\.{i}\.{leaf}", f"decoder/{path}{i}/{ours}{layout}")
        for i in range(4)
        for theirs, path in (("projects", "project"), ("resize_layers", "resize"))
        for leaf, ours in _LEAVES
        for layout in ("|iohw" if path == "resize" and i < 2 and leaf == "weight" else "",)
    ),
    *((rf"{_HEAD}layer{i + 1}_rn\.weight", f"decoder/reduce{i}/kernel") for i in range(4)),
    *(
        (rf"{_HEAD}refinenet{i + 1}\.{theirs}\.{leaf}", f"decoder/fusion{i}/{path}/{ours}")
        for i in range(4)
        for theirs, path in (
            ("out_conv", "project"),
            *((rf"resConfUnit{k}\.conv{j}", f"unit{k}_{j}") for k in (1, 2) for j in (1, 2)),
        )
        for leaf, ours in _LEAVES
    ),
    *((rf"{_HEAD}output_conv1\.{leaf}", f"head1/{ours}") for leaf, ours in _LEAVES),
    *(
        (rf"{_HEAD}output_conv2\.{number}\.{leaf}", f"head{i}/{ours}")
        for i, number in ((2, 0), (3, 2))
        for leaf, ours in _LEAVES
    ),
)
"""Rules from the authors' published files, ``depth_anything_v2_vits.pth`` and the like."""

SMALL = {
    "backbone.width": 16,
    "backbone.depth": 4,
    "backbone.heads": 2,
    "backbone.grid": 4,
    "backbone.out_blocks": (0, 1, 2, 3),
    "widths": (8, 8, 12, 16),
    "features": 8,
    "head_features": 8,
}
"""Fields of the small variant."""

_register = partial(
    register,
    task="relative_depth",
    names={"transformers": TRANSFORMERS_NAMES, "authors": AUTHORS_NAMES},
)

for _version, _paper in (("v1", "arXiv:2401.10891"), ("v2", "arXiv:2406.09414")):
    for _variant in VARIANTS:
        _register(
            name=f"depth_anything_{_version}_{_variant}",
            summary=f"Depth Anything {_version.upper()} on DINOv2 {_variant}.",
            paper=_paper,
            small=SMALL if (_version, _variant) == ("v2", "small") else None,
        )(partial(depth_anything, _version, _variant))
