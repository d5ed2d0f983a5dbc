"""Metrics over whole splits: ``observe`` runs on the device, ``init``, ``fold`` and ``result`` on the host."""

from jaxseg.metrics.boundary import BoundaryF1, boundary_counts
from jaxseg.metrics.calibration import Calibration
from jaxseg.metrics.coco import CocoBoxes, CocoKeypoints, CocoMasks
from jaxseg.metrics.color import ColorAuC
from jaxseg.metrics.confusion import Confusion, confusion_matrix
from jaxseg.metrics.depth import DepthErrors
from jaxseg.metrics.normals import NormalErrors
from jaxseg.metrics.ods import BoundaryODS
from jaxseg.metrics.panoptic import PanopticQuality
from jaxseg.metrics.rand import Rand
from jaxseg.metrics.relative_depth import RelativeDepthErrors
from jaxseg.metrics.saliency import SaliencyMeasures
from jaxseg.metrics.voc_ap import MaskAPr, VocAP
from jaxseg.metrics.warping import Warping

__all__ = [
    "BoundaryF1",
    "BoundaryODS",
    "Calibration",
    "CocoBoxes",
    "CocoKeypoints",
    "CocoMasks",
    "ColorAuC",
    "Confusion",
    "DepthErrors",
    "MaskAPr",
    "NormalErrors",
    "PanopticQuality",
    "Rand",
    "RelativeDepthErrors",
    "SaliencyMeasures",
    "VocAP",
    "Warping",
    "boundary_counts",
    "confusion_matrix",
]
