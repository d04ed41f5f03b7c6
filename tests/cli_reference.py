"""Writes docs/cli.md from the commands' own help: `python -m tests.cli_reference > docs/cli.md`."""

from collections.abc import Iterator

import click

from workbench.cli import main

_WIDTH = 100
_HEAD = """\
# The `workbench` command

Written by `make docs` from each command's own `--help`; a test fails when it is stale.
"""


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """(full name, command, context) of a command and all below it, in the order of its help."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from commands(child, click.Context(child, context, name, **child.context_settings))


def all_commands() -> list[tuple[str, click.Command, click.Context]]:
    """Every command of the tool."""
    root = click.Context(main, info_name="workbench", terminal_width=_WIDTH, **main.context_settings)
    return list(commands(main, root))


def reference() -> str:
    """The page."""
    parts = [_HEAD]
    for name, command, context in all_commands():
        parts.append(f"\n## `{name}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
