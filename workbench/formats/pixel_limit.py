"""How many pixels an image may have before it is refused: Pillow's own limit, or the one of an environment variable."""

import os

from PIL import Image

from workbench.errors import DatasetError

VARIABLE = "WORKBENCH_MAX_PIXELS"


def apply_pixel_limit() -> None:
    """Let Pillow open images of up to $WORKBENCH_MAX_PIXELS pixels, in this process; unset, its own limit stays.

    Pillow refuses images of more than twice `MAX_IMAGE_PIXELS` (about 179 million pixels), as they may be made to fill
    the memory, and warns beyond half of that. Raises DatasetError for a value that is no positive whole number.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return
    if not text.isdecimal() or int(text) == 0:
        raise DatasetError(f"{VARIABLE} is {text!r}; it must be a whole number of pixels, such as 400000000.")
    Image.MAX_IMAGE_PIXELS = -(-int(text) // 2)
