"""Where the App's plugin lies, and how FiftyOne finds it: by a link in a folder of plugins, never by a copy."""

import os
from pathlib import Path

from workbench.errors import FiftyOneError
from workbench.files.cache import cache_folder
from workbench.files.digests import text_digest
from workbench.voxel51.installed import fiftyone

VARIABLE = "FIFTYONE_PLUGINS_DIR"
"""Where FiftyOne reads which one folder it looks for plugins in."""
_LINK, _THEIRS = "eomt-workbench", "others"


def folder() -> Path:
    """The folder that holds `fiftyone.yml`."""
    return Path(__file__).parent / "plugin"


def together() -> Path:
    """A folder of links, to the plugin and to the user's own plugins: FiftyOne looks for them in one folder alone.

    Where the plugin is in the user's folder already, that folder.
    """
    theirs = _users_folder()
    if (theirs / _LINK).exists():
        return theirs
    made = cache_folder() / "fiftyone-plugins" / text_digest([str(theirs)])[:16]
    made.mkdir(parents=True, exist_ok=True)
    _link(made / _LINK, folder())
    _link(made / _THEIRS, theirs)
    return made


def install() -> Path:
    """Link the plugin into the user's folder of plugins; returns the link.

    Raises FiftyOneError where something else stands there.
    """
    link = _users_folder() / _LINK
    if link.exists() and not link.is_symlink():
        raise FiftyOneError(f"{link}: is there already, and no link of ours. Move it away first.")
    link.parent.mkdir(parents=True, exist_ok=True)
    _link(link, folder())
    return link


def remove() -> Path | None:
    """Take that link away again; returns what it was, None where there was none."""
    link = _users_folder() / _LINK
    if not link.is_symlink():
        return None
    link.unlink()
    return link


def _link(link: Path, to: Path) -> None:
    if link.is_symlink() and link.readlink() == to:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")  # FiftyOne passes hidden folders by
    fresh.symlink_to(to, target_is_directory=True)
    fresh.replace(link)


def _users_folder() -> Path:
    return Path(fiftyone().config.plugins_dir)
