"""Show depth and surface normals in colour."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Google's Turbo (Mikhailov 2019), polynomial approximation: near is warm, far is cold after reversal.
TURBO = np.asarray(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


def colorize_depth(depth: Any, valid: Any = None, *, near: float | None = None, far: float | None = None) -> np.ndarray:
    """Return depth as colour, uint8 [h w 3]: warm is near, cold is far, black is unknown.

    The scale is that of disparity, ``1 / depth``, so that what is near keeps its detail.

    Args:
      depth: metres [h w].
      valid: where it is known, bool [h w]; None for wherever it is positive and finite.
      near: depth of the warmest colour; None for the 2nd percentile of what is known.
      far: depth of the coldest; None for the 98th.

    >>> colorize_depth([[1.0, 9.0, 0.0]])[0, 2].tolist()
    [0, 0, 0]
    """
    depth = np.asarray(depth, np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if valid is not None:
        known &= np.asarray(valid, bool)
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    nearest, farthest = depth_range(depth, known) or (1.0, 1.0)
    near, far = nearest if near is None else near, farthest if far is None else far
    disparity = 1 / np.where(known, depth, far)
    span = max(1 / near - 1 / far, 1e-9)
    t = np.clip((disparity - 1 / far) / span, 0, 1)
    powers = np.stack([t**i for i in range(TURBO.shape[1])], axis=-1)
    color = np.clip(np.rint(255 * powers @ TURBO.T), 0, 255).astype(np.uint8)
    return np.where(known[..., None], color, np.uint8(0))


def depth_range(depth: Any, valid: Any = None) -> tuple[float, float] | None:
    """Return the depths of the warmest and the coldest colour of a map: 2nd and 98th percentile; None if none is known.

    >>> depth_range([[2.0, 2.0, 0.0]])
    (2.0, 2.0)
    """
    depth = np.asarray(depth, np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if valid is not None:
        known &= np.asarray(valid, bool)
    if not known.any():
        return None
    near, far = np.percentile(depth[known], (2, 98))
    return float(near), float(far)


def with_depth_scale(picture: np.ndarray, near: float, far: float) -> np.ndarray:
    """Return a picture of depth above a bar of its colours, with metres below the bar.

    Args:
      picture: uint8 [h w 3].
      near: metres of the warmest colour, at the left.
      far: metres of the coldest.

    >>> with_depth_scale(np.zeros((48, 160, 3), np.uint8), 1.0, 4.0).shape[1]
    160
    """
    width = picture.shape[1]
    size = max(10, min(18, width // 32))
    font, line = ImageFont.load_default(size), round(1.4 * size)
    strip = Image.new("RGB", (width, 3 * line), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    left, right = min(line // 2, width // 4), width - 1 - min(line // 2, width // 4)
    position = np.linspace(0, 1, right - left + 1)
    metres = 1 / (1 / near + position * (1 / far - 1 / near))
    bar = np.repeat(colorize_depth(metres[None], near=near, far=far), line, axis=0)
    strip.paste(Image.fromarray(bar), (left, line // 4))
    ticks = int(np.clip(width // (5 * size), 2, 6))
    for i in np.linspace(0, len(metres) - 1, ticks).round().astype(int):
        text = f"{metres[i]:.2g} m" if metres[i] < 10 else f"{metres[i]:.0f} m"
        wide = draw.textlength(text, font=font)
        draw.line([(left + i, line // 4 + line), (left + i, line // 4 + line + 3)], fill=(30, 30, 30))
        at = np.clip(left + i - wide / 2, 0, max(width - wide, 0))
        draw.text((float(at), line // 4 + line + 4), text, (30, 30, 30), font=font)
    return np.concatenate([picture, np.asarray(strip)], axis=0)


def colorize_normal(normal: Any, valid: Any = None) -> np.ndarray:
    """Return unit normals as colour, uint8 [h w 3], black where unknown.

    The usual colours: red grows to the right, green upwards, blue towards the viewer. With our axes (x right, y down, z
    into the scene) that is ``(x, -y, -z)`` from -1..1 to 0..255.

    Args:
      normal: unit vectors [h w 3].
      valid: where they are known, bool [h w]; None for everywhere but zero vectors.

    >>> colorize_normal([[[0.0, 0.0, -1.0]]]).tolist()
    [[[128, 128, 255]]]
    """
    normal = np.asarray(normal, np.float64)
    known = (np.abs(normal).sum(-1) > 0) if valid is None else np.asarray(valid, bool)
    color = np.clip(np.rint((normal * [1, -1, -1] + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.where(known[..., None], color, np.uint8(0))
