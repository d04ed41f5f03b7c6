"""Which of Pillow's file formats are opened, and which modes can become RGB; without torch, for checks of files."""

FILE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF", "JPEG2000")
"""What a file may be, whatever its name. Not all that Pillow knows: for EPS it would start another program."""


def mode_problem(mode: str) -> str | None:
    """Why images of a Pillow mode cannot become RGB; None where they can."""
    if mode[0] in "IF":
        return f"has mode {mode!r}, more than 8 bits a channel, which a conversion to RGB would clip"
    return None
