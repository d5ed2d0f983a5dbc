"""Pictures of what goes in and what comes out: NumPy arrays uint8 ``[h w 3]``, drawn with Pillow and matplotlib.

:func:`draw`, :func:`compare`, :func:`describe` and :func:`summarize` take whatever a task predicts; each kind of
prediction has a :class:`Painter`. Nothing here needs a display, and matplotlib is imported only when a curve is drawn.
"""

from jaxseg.viz.curves import curves
from jaxseg.viz.geometry import colorize_depth, colorize_normal
from jaxseg.viz.labels import colorize, label_png, overlay
from jaxseg.viz.masks import instance_map, instance_maps, paste_mask
from jaxseg.viz.objects import draw_boxes, draw_instances
from jaxseg.viz.painter import (
    Painter,
    compare,
    confident,
    describe,
    draw,
    paint,
    painter,
    registered_painters,
    summarize,
    unpainted,
    write,
)
from jaxseg.viz.palettes import distinct_palette, voc_palette
from jaxseg.viz.panels import panel, sheet, stack
from jaxseg.viz.uncertainty import shade_share, shade_variance
from jaxseg.viz.visible import visible

__all__ = [
    "Painter",
    "colorize",
    "colorize_depth",
    "colorize_normal",
    "compare",
    "confident",
    "curves",
    "describe",
    "distinct_palette",
    "draw",
    "draw_boxes",
    "draw_instances",
    "instance_map",
    "instance_maps",
    "label_png",
    "overlay",
    "paint",
    "painter",
    "panel",
    "paste_mask",
    "registered_painters",
    "shade_share",
    "shade_variance",
    "sheet",
    "stack",
    "summarize",
    "unpainted",
    "visible",
    "voc_palette",
    "write",
]
