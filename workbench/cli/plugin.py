"""`workbench plugin`: the App's plugin, found by any FiftyOne."""

import click


@click.command()
@click.option("--install", is_flag=True, help="Link it into your folder of FiftyOne plugins, for every session.")
@click.option("--remove", is_flag=True, help="Take that link away.")
def plugin(install: bool, remove: bool) -> None:
    """Print the folder in which FiftyOne finds the workbench's plugin, beside your own plugins.

    The plugin brings predict, evaluate, pre-label and mark reviewed into the App, and a panel with a run's numbers. An
    App that `workbench browse` opens has it; this command is for other sessions. Nothing is copied: the folder holds
    links. Needs the extra: pip install 'eomt-workbench[fiftyone]'.

    \b
    FIFTYONE_PLUGINS_DIR=$(workbench plugin) fiftyone app launch scenes_val
    FIFTYONE_PLUGINS_DIR=$(workbench plugin) fiftyone delegated launch
    workbench plugin --install
    """
    from workbench.errors import OptionError
    from workbench.voxel51 import plugin_folder

    if install and remove:
        raise OptionError("--install and --remove: one of them.")
    if install:
        click.echo(plugin_folder.install())
    elif remove:
        gone = plugin_folder.remove()
        click.echo(f"Removed {gone}." if gone else "There was no link.", err=True)
    else:
        click.echo(plugin_folder.together())
