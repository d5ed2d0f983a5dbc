"""PNG files in memory: pictures to look at, and maps whose pixels are numbers to be read back."""

import io

import numpy as np
from PIL import Image


def encode(picture: np.ndarray) -> bytes:
    """Return uint8 ``[h w 3]``, uint8 ``[h w]`` or uint16 ``[h w]`` as a PNG; 16 bits keep their numbers.

    >>> from jaxseg.viz.png import encode
    >>> Image.open(io.BytesIO(encode(np.asarray([[40000]], np.uint16)))).getpixel((0, 0))
    40000
    """
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, format="PNG")
    return out.getvalue()
