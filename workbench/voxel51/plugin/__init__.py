"""The plugin of FiftyOne's App. FiftyOne loads this file by `fiftyone.yml` and calls `register`."""

from typing import Any


def register(plugin: Any) -> None:
    """Give FiftyOne the operators and the panel."""
    # Here: they are subclasses of FiftyOne's, and this package is imported without FiftyOne too.
    from workbench.voxel51.plugin.operators import OPERATORS
    from workbench.voxel51.plugin.panel import RunNumbers

    for each in (*OPERATORS, RunNumbers):
        plugin.register(each)
