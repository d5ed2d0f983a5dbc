"""Fast R-CNN (Girshick 2015, arXiv:1504.08083): one map of the whole image, from which every region is cut.

Where R-CNN runs a network on every proposal, here the convolutions run once, and only two dense layers see each region:
RoI pooling cuts it out of the map. One head names what is in it, another corrects the box for each class, and both are
trained together. Proposals come from elsewhere, in the batch's ``proposals``.

Regions that a network proposes itself are in :mod:`jaxseg.models.detection.faster_rcnn`, whose second stage this is.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxseg.backbones import vgg
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import mean_outside, whole
from jaxseg.layers.fpn import FPN
from jaxseg.layers.roi_heads import BoxHead, BoxPredictor, caffe_box_names
from jaxseg.layers.rpn import Proposals
from jaxseg.layers.sampling import sample_regions
from jaxseg.layers.standardize import FAST_RCNN, Standardize, statistics
from jaxseg.ops import boxes as box_ops
from jaxseg.ops import codings
from jaxseg.ops.anchors import exact_base_anchors, grid_anchors
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.roi import pyramid_levels, roi_align
from jaxseg.ops.roi_pool import roi_pool
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]

RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths of anchors and windows."""


class FastRCNN(nn.Module):
    """Fast R-CNN: a backbone, regions cut out of its maps, and a head on each.

    Attributes:
      backbone: gives ``maps``.
      box_head: of the regions.
      fpn: the pyramid on the maps; None for the maps themselves.
      shared_head: what boxes and masks both see of a region; None for the region itself.
      num_classes: without background.
      maps: backbone maps under the pyramid, finest first.
      finest_stride: of the finest level, pixels; it doubles with each.
      roi_levels: levels that regions are cut from.
      side: rows and columns of cells that the box head has of a region.
      multiple: canvases are padded to multiples of it.
      pooling: how regions are cut: "align", RoIAlign; or "max", RoI pooling with whole cells, of one level.
      pool_every: cells from one that RoI pooling looks at to the next.
      aligned: whether RoIAlign subtracts half a cell.
      sampling_ratio: samples along a bin's side; 0 for as many as it has cells.
      level_epsilon: by which regions may fall short of the next level.
      coded_background: whether background has a box code, never used, as in torchvision.
      coding: of boxes, see :mod:`jaxseg.ops.codings`.
      samples: regions of an image that the head is trained on.
      positive_fraction: of them that may be objects.
      least_overlap: with an object that background has in training.
      score_threshold: detections score above it.
      min_size: least width and height of detections, pixels.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      windows: where no proposals are given: roots of the areas of windows that slide over the image by half of it, of
        three ratios each ("dense boxes", section 5.4).
      dtype: compute dtype.

    >>> model, image = fast_rcnn_vgg16(3, width=4, dense=8), jnp.zeros((2, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["valid"].shape
    ((2, 100, 4), (2, 100))
    """

    backbone: nn.Module
    box_head: BoxHead
    fpn: FPN | None = None
    shared_head: nn.Module | None = None
    num_classes: int = 90
    maps: tuple[str, ...] = ("c2", "c3", "c4", "c5")
    finest_stride: int = 4
    roi_levels: int = 4
    side: int = 7
    multiple: int = 32
    pooling: str = "align"
    pool_every: int = 1
    aligned: bool = False
    sampling_ratio: int = 2
    level_epsilon: float = 1e-6
    coded_background: bool = True
    coding: str = codings.HALF_OPEN
    samples: int = 512
    positive_fraction: float = 0.25
    least_overlap: float = 0.0
    score_threshold: float = 0.05
    min_size: float = 1e-2
    nms_threshold: float = 0.5
    detections: int = 100
    windows: tuple[int, ...] = (64, 128, 256, 512)
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        proposals: Float[Array, "b p 4"] | None = None,
        proposal_valid: Bool[Array, "b p"] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return detections of raw images: ``boxes``, ``scores``, ``classes``, ``valid``, and ``exact``.

        Args:
          image: canvases; what is no image counts as the mean colour, as torchvision pads after standardising.
          size: rows and columns of each canvas that are image; None for all.
          targets: in training, ``boxes``, ``valid`` and, if there are any, ``crowd`` of the objects: regions are
            sampled by them, from the random stream "sample", and by ``index``, the images' numbers, where it is given:
            then what is drawn does not depend on how a batch is spread over devices.
          proposals: boxes to look at; None for ``windows``.
          proposal_valid: which of their slots hold one; None for all.
          train: return instead what losses are made of: ``rois`` [b s 4], ``roi_valid`` and ``roi_positive`` [b s],
            ``roi_logits`` [b s k+1], ``roi_deltas`` [b s k+1 4].
        """
        given = None
        if proposals is not None:
            there = jnp.ones(proposals.shape[:2], bool) if proposal_valid is None else proposal_valid
            given = Proposals(proposals, there.astype(jnp.float32), there)
        return self._find(image, size, targets, given, train=train)[0]

    def _find(
        self,
        image: Array,
        size: Array | None,
        targets: Mapping[str, Array] | None,
        given: Proposals | None = None,
        *,
        train: bool,
    ) -> tuple[dict[str, Array], list[Map], Array]:
        """Return what ``__call__`` does, and for more heads the levels' maps and the regions that the box head saw."""
        size = whole(image) if size is None else size
        canvas, found = self._see(image, size, train=train)
        return self._find_in(canvas, self._levels(found, train=train), size, targets, given, train=train)

    def _see(self, image: Array, size: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Return the canvases on which regions lie, and the backbone's maps of them."""
        canvas = zeros_to_multiple(mean_outside(image, size, self.backbone.standardize), self.multiple)
        return canvas, self.backbone(canvas, train=train)

    def _levels(self, found: Mapping[str, Array], *, train: bool) -> list[Map]:
        """Return the levels that regions are cut from, of the backbone's maps."""
        levels = [found[name] for name in self.maps]
        return levels if self.fpn is None else self.fpn(levels, train=train)

    def _find_in(
        self,
        canvas: Array,
        levels: list[Map],
        size: Array,
        targets: Mapping[str, Array] | None,
        given: Proposals | None = None,
        *,
        train: bool,
    ) -> tuple[dict[str, Array], list[Map], Array]:
        """Return what :meth:`_find` does, of the levels of canvases."""
        proposals, of_anchors = self._propose(canvas, levels, size, given, train=train)
        rois, valid = proposals.boxes, proposals.valid
        positive = valid
        if train and targets is not None:
            rois, valid, positive = self._sample(proposals, targets)
        regions = self._regions(levels, rois, valid, self.side, train=train)
        outputs, coded = self.num_classes + 1, self.num_classes + self.coded_background
        predictor = BoxPredictor(outputs, coded, dtype=self.dtype, name="box_predictor")
        roi_logits, roi_deltas = predictor(self.box_head(regions, valid, train=train))
        roi_deltas = jnp.pad(roi_deltas, ((0, 0), (0, 0), (outputs - coded, 0), (0, 0)))
        if not train:
            return self._detect(rois, valid, roi_logits, roi_deltas, size), levels, regions
        of_rois = {
            "rois": rois,
            "roi_valid": valid,
            "roi_positive": positive,
            "roi_logits": roi_logits,
            "roi_deltas": roi_deltas,
        }
        return of_anchors | of_rois, levels, regions

    def _propose(
        self, canvas: Array, levels: list[Map], size: Array, given: Proposals | None, *, train: bool
    ) -> tuple[Proposals, dict[str, Array]]:
        """Return the proposals, and in training what losses of a proposal network are made of."""
        del levels, train
        if given is not None:
            return given, {}
        boxes = sliding_windows((canvas.shape[1], canvas.shape[2]), self.windows)
        boxes = jax.vmap(lambda size: box_ops.clip(boxes, size[0], size[1]))(size)
        valid = box_ops.large_enough(boxes, min(self.windows) / 4)
        return Proposals(boxes, valid.astype(jnp.float32), valid), {}

    def _regions(
        self, levels: list[Map], rois: Float[Array, "b p 4"], valid: Bool[Array, "b p"], side: int, *, train: bool
    ) -> Float[Array, "b p _ _ _"]:
        """Return ``side`` by ``side`` cells of each region from the level of its size, through the shared head."""
        if self.pooling not in ("align", "max"):
            raise BadInput(f"pooling {self.pooling!r} of regions; there are 'align' and 'max'")
        first, count = self.finest_stride.bit_length() - 1, self.roi_levels
        if self.pooling == "max":
            options = {"size": side, "stride": self.finest_stride, "every": self.pool_every}
            regions = roi_pool(levels[0], codings.to_last_pixel(rois), valid, **options)
        else:
            regions = roi_align(
                levels[:count],
                rois,
                valid,
                size=side,
                strides=[self.finest_stride << i for i in range(count)],
                sampling_ratio=self.sampling_ratio,
                aligned=self.aligned,
                levels=pyramid_levels(rois, count, first_level=first, epsilon=self.level_epsilon),
            )
        return regions if self.shared_head is None else self.shared_head(regions, train=train)

    def _regions_for_head(
        self, found: Mapping[str, Array], levels: list[Map], regions: Array, *, train: bool
    ) -> Float[Array, "b p _ _ _"]:
        """Return 14 by 14 cells, before a shared head, of each region that a further head looks at.

        At test time these are the detections; in training the first sampled regions, those that may be positive.
        """
        if not train:
            return self._regions(levels, found["boxes"], found["valid"], 14, train=train)
        most = int(self.samples * self.positive_fraction)
        if self.shared_head is not None:
            return regions[:, :most]
        return self._regions(levels, found["rois"][:, :most], found["roi_valid"][:, :most], 14, train=train)

    def _sample(self, proposals: Proposals, targets: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Draw regions to train the heads on, among them the objects' own boxes.

        Returns:
          The regions, those that cover an object first; which there are; and which cover an object.
        """
        rois, valid, positive = sample_regions(
            self.make_rng("sample"),
            proposals,
            targets,
            count=self.samples,
            positive_fraction=self.positive_fraction,
            backgrounds=((self.least_overlap, 0.5, 1.0),),
        )
        return jax.lax.stop_gradient(rois), valid, positive

    def _detect(self, rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
        find = partial(
            detections,
            score_threshold=self.score_threshold,
            min_size=self.min_size,
            nms_threshold=self.nms_threshold,
            count=self.detections,
            slots=min(2000, rois.shape[1] * self.num_classes),
        )

        def one(rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
            scores = jax.nn.softmax(logits, axis=-1)[:, 1:]
            boxes = codings.decode(deltas[:, 1:], rois[:, None], box_ops.REGION_WEIGHTS, coding=self.coding)
            best = find(box_ops.clip(boxes, size[0], size[1]), scores, valid=valid)
            return {k: v for k, v in best._asdict().items() if k in ("boxes", "scores", "classes", "valid", "exact")}

        return map_images(one)(rois, valid, logits, deltas, size)


def sliding_windows(canvas: tuple[int, int], sizes: tuple[int, ...]) -> Float[Array, "p 4"]:
    """Return boxes of three ratios for each size in every cell of a grid of half the size.

    >>> sliding_windows((32, 64), (32,)).shape
    (24, 4)

    Args:
      canvas: rows and columns.
      sizes: roots of the boxes' areas, pixels.
    """
    found = []
    for size in sizes:
        step = max(size // 2, 1)
        grid = (max(canvas[0] // step, 1), max(canvas[1] // step, 1))
        found.append(grid_anchors(exact_base_anchors((size,), RATIOS), grid, (step, step), offset=0.5))
    return jnp.concatenate(found)


def vgg16_map(
    *,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> vgg.VGG:
    """Return VGG16 up to conv5_3, stride 16, with Caffe's pools and Fast R-CNN's mean colour.

    >>> vgg16_map().output_stride
    16
    """
    return vgg.VGG(
        width=width,
        output_stride=16,
        ceil_mode=True,
        in_channels=in_channels,
        standardize=statistics(standardize, FAST_RCNN, in_channels),
        dtype=dtype,
    )


ON_ONE_MAP: Mapping[str, Any] = {
    "maps": ("c5",),
    "finest_stride": 16,
    "roi_levels": 1,
    "multiple": 1,
    "pooling": "max",
    "min_size": 0.0,
    "nms_threshold": 0.3,
}
"""Fields of the networks on VGG16."""


def on_vgg16(
    num_classes: int = 20,
    *,
    width: int = 64,
    dense: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FastRCNN:
    """Return Fast R-CNN as the paper has it, 20 classes of VOC by default.

    >>> on_vgg16().box_head.dense, on_vgg16().least_overlap
    ((4096, 4096), 0.1)
    """
    backbone = vgg16_map(width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return FastRCNN(
        backbone=backbone,
        box_head=BoxHead((), (dense, dense), dropout=0.5, dtype=dtype),
        num_classes=num_classes,
        coding=codings.CORNERS,
        samples=64,
        least_overlap=0.1,
        dtype=dtype,
        **ON_ONE_MAP,
    )


def truncated(
    model: FastRCNN, variables: Mapping[str, Any], ranks: tuple[int, ...] = (1024, 256)
) -> tuple[FastRCNN, dict[str, Any]]:
    """Return a trained network with the matrices of its dense layers as products of two of lower rank, and its weights.

    The truncated singular value decomposition of section 3.1, after training and for inference alone.

    >>> kernels = {"fc6": jnp.ones((7, 7, 32, 8)), "fc7": jnp.ones((1, 1, 8, 8))}
    >>> layers = {name: {"kernel": kernel, "bias": jnp.zeros(8)} for name, kernel in kernels.items()}
    >>> _, variables = truncated(on_vgg16(width=4, dense=8), {"params": {"box_head": layers}}, (3, 2))
    >>> variables["params"]["box_head"]["fc7_right"]["kernel"].shape
    (1, 1, 8, 2)

    Args:
      model: with dense layers in its box head.
      variables: its.
      ranks: of each dense layer; those of the paper by default.

    Raises:
      BadInput: there are more or fewer dense layers, or they are truncated already.
    """
    head = model.box_head
    if len(ranks) != len(head.dense) or head.ranks:
        raise BadInput(f"{len(ranks)} ranks for {len(head.dense)} dense layers of rank {head.ranks or 'full'}")
    layers = dict(variables["params"]["box_head"])
    names = [name for name in sorted(layers) if name.startswith("fc")]
    for name, rank in zip(names, ranks, strict=True):
        kernel = np.asarray(layers[name]["kernel"])
        left, middle, right = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
        rank = min(rank, len(middle))
        layers[f"{name}_right"] = {"kernel": jnp.asarray(left[:, :rank].reshape(*kernel.shape[:-1], rank))}
        layers[name] = {
            "kernel": jnp.asarray((middle[:rank, None] * right[:rank])[None, None]),
            "bias": layers[name]["bias"],
        }
    params = {**variables["params"], "box_head": layers}
    return model.clone(box_head=head.clone(ranks=tuple(ranks))), {**variables, "params": params}


CAFFE_NAMES: Rules = (
    (r"(conv\d_\d)\.weight", r"backbone/\1/kernel"),
    (r"(conv\d_\d)\.bias", r"backbone/\1/bias"),
    *caffe_box_names("box"),
)
"""Rules from the authors' ``vgg16_fast_rcnn_iter_40000.caffemodel``."""

SMALL_VGG: Mapping[str, Any] = {
    "width": 8,
    "dense": 64,
    "samples": 64,
    "least_overlap": 0.0,
    "detections": 20,
    "windows": (16, 32, 64),
}
"""The small variants: few channels, windows for images of 64 to 128 pixels, all background."""

fast_rcnn_vgg16 = register(
    task="detection",
    paper="arXiv:1504.08083",
    name="fast_rcnn_vgg16",
    summary="Fast R-CNN on VGG16, whose proposals come from elsewhere.",
    params=134_690_729,
    names={"caffe": CAFFE_NAMES},
    small=SMALL_VGG,
)(on_vgg16)
