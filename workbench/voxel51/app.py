"""FiftyOne's App: started on a dataset, and kept running until it is closed or stopped."""

import ipaddress
import os
from typing import Any

from workbench.errors import FiftyOneError
from workbench.runs import DEFAULT_ROOT
from workbench.voxel51 import plugin_folder
from workbench.voxel51.installed import fiftyone

LOOPBACK = "127.0.0.1"
PORT = 5151
RUNS_VARIABLE = "WORKBENCH_RUNS"
"""Tells the plugin where run folders go."""


def launch(dataset: Any, port: int = PORT, address: str = LOOPBACK, remote: bool = False) -> Any:
    """Start the App on a FiftyOne dataset, with the workbench's plugin; returns its session.

    `remote` opens no browser on this machine. Raises FiftyOneError where the App's server does not come up.
    """
    # For the App's server, which inherits them: it works in a folder of its own.
    os.environ[plugin_folder.VARIABLE] = str(plugin_folder.together())
    os.environ.setdefault(RUNS_VARIABLE, str(DEFAULT_ROOT.absolute()))
    fo = fiftyone()
    try:
        return fo.launch_app(dataset, port=port, address=address, remote=remote, auto=not remote)
    except fo.core.service.ServiceListenTimeout as error:
        raise FiftyOneError(
            f"FiftyOne's App did not come up on {address}:{port} within a minute. Another program may use that port: "
            "name another one with --port. Or the machine is busy: try again, what was pushed is there."
        ) from error


def wait(session: Any) -> None:
    """Return when the App's last window is closed, or on Ctrl-C; with `remote` on Ctrl-C only. Then stop the App."""
    try:
        session.wait(-1)
    finally:
        session.close()
        fiftyone().close_app()


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
