"""Which of Pillow's image modes can become RGB; without torch, so that a check of files need not load it."""


def mode_problem(mode: str) -> str | None:
    """Why images of a Pillow mode cannot become RGB; None where they can."""
    if mode[0] in "IF":
        return f"has mode {mode!r}, more than 8 bits a channel, which a conversion to RGB would clip"
    return None
