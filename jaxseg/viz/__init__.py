"""Pictures of what goes in and what comes out: NumPy arrays uint8 ``[h w 3]``, drawn with Pillow and matplotlib.

Nothing here needs a display, and matplotlib is imported only when a curve is drawn.
"""

from jaxseg.viz.curves import curves
from jaxseg.viz.geometry import colorize_depth, colorize_normal
from jaxseg.viz.labels import colorize, label_png, overlay
from jaxseg.viz.objects import draw_boxes, draw_instances
from jaxseg.viz.palettes import distinct_palette, voc_palette
from jaxseg.viz.panels import panel
from jaxseg.viz.uncertainty import shade_variance

__all__ = [
    "colorize",
    "colorize_depth",
    "colorize_normal",
    "curves",
    "distinct_palette",
    "draw_boxes",
    "draw_instances",
    "label_png",
    "overlay",
    "panel",
    "shade_variance",
    "voc_palette",
]
