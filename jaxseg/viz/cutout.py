"""Cut-outs: an image without its background, which is transparent."""

import numpy as np

from jaxseg.viz.visible import visible


def cut_out(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the image with an opacity for each pixel.

    Args:
      image: of any bands [h w c].
      alpha: f32 [h w], from 0 to 1.

    Returns:
      u8 [h w 4], RGB and alpha.

    >>> cut_out(np.full((1, 2, 3), 7, np.uint8), np.asarray([[0.0, 1.0]])).tolist()
    [[[7, 7, 7, 0], [7, 7, 7, 255]]]
    """
    opacity = np.rint(255 * np.clip(alpha, 0, 1)).astype(np.uint8)
    return np.concatenate([visible(image), opacity[..., None]], axis=-1)
