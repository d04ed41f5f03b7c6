"""The `workbench` command: finds the subcommand, loads only that, and turns errors into one message and an exit code.

Exit codes: 0 good, 1 failed (names that are not found among it), 2 wrong options, 130 stopped by Ctrl-C or SIGTERM,
141 where the reader of a pipe went away.
"""

import importlib
import os
import sys
from typing import Any

import click

from eomt.errors import EomtError
from workbench import __version__
from workbench.errors import OptionError, WorkbenchError, did_you_mean
from workbench.printable import printable_streams

STOPPED = 130
BROKEN_PIPE = 141  # what a shell reports of a process that SIGPIPE ended

# name: (where it is, what `workbench --help` says of it). Loading every module to ask it would cost the start-up.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("workbench.cli.demo:demo", "Predict and score the bundled sample, offline."),
    "predict": ("workbench.cli.predict:predict", "Run a model over a dataset, into a run folder."),
    "evaluate": ("workbench.cli.evaluate:evaluate", "Score a run against its dataset's ground truth."),
    "compare": ("workbench.cli.compare:compare", "Compare two runs, with intervals; a gate for scripts."),
    "sweep": ("workbench.cli.sweep:sweep", "Score a run at other thresholds, without the model."),
    "parity": ("workbench.cli.parity:parity", "Compare our numbers with the official tools' own."),
    "bench": ("workbench.cli.bench:bench", "Measure our speed against the official tools."),
    "train": ("workbench.cli.train:train", "Train or fine-tune a model on a dataset."),
    "report": ("workbench.cli.report:report", "Write a page about runs, with pictures of their errors."),
    "audit": ("workbench.cli.audit:audit", "Find labels that are probably wrong."),
    "browse": ("workbench.cli.browse:browse", "See ground truth, runs and their errors in FiftyOne."),
    "prelabel": ("workbench.cli.prelabel:prelabel", "Put predictions into FiftyOne as labels to correct."),
    "plugin": ("workbench.cli.plugin:plugin", "Print where FiftyOne finds the workbench's plugin."),
    "pull": ("workbench.cli.pull:pull", "Take corrected labels home from FiftyOne."),
    "datasets": ("workbench.cli.datasets:datasets", "List, show, check, add and download datasets."),
    "models": ("workbench.cli.models:models", "List, show and convert checkpoints."),
    "import": ("workbench.cli.transfer:import_command", "Make a run of anyone's predictions."),
    "export": (
        "workbench.cli.transfer:export_command",
        "Write runs for other tools: COCO, index PNGs, CVAT, Parquet.",
    ),
    "sample": ("workbench.cli.sample:sample", "Generate the sample dataset."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, with the nearest name where there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}. {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of `COMMANDS`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        """Click's own; names of others, in results and in error messages, cannot steer the terminal."""
        with printable_streams():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the user can mend becomes one message on stderr and exit code 1."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here and not at exit, where Python would print a traceback
            return result
        except OptionError as error:
            raise click.UsageError(_told(error)) from error
        except (WorkbenchError, EomtError) as error:
            raise click.ClickException(_told(error)) from error
        except BrokenPipeError as error:
            _drop_unwritable_stdout()
            raise click.exceptions.Exit(BROKEN_PIPE) from error
        except OSError as error:
            _drop_unwritable_stdout()
            place = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{place}{error.strerror or error}.") from error
        except KeyboardInterrupt as interrupt:
            click.echo(f"\n{_told(interrupt) or 'Stopped.'}", err=True)
            raise click.exceptions.Exit(STOPPED) from interrupt


def _told(error: BaseException) -> str:
    """Its message, with the URLs of remote places in place of the paths that stand for them."""
    from workbench.storage.places import with_urls  # not above: every `--help` would pay for it

    return with_urls(str(error))


def _drop_unwritable_stdout() -> None:
    """What stdout does not take any more is dropped: Python would try again at exit, with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="workbench")
def main() -> None:
    """Predict with EoMT, score exactly, and keep every segment in Parquet.

    \b
    Start here:
      workbench demo                          the bundled sample with the bundled checkpoint, offline
      workbench predict --dataset coco_val    a run folder of predicted segments
      workbench evaluate                      PQ, AP and mIoU of the newest run

    Exit code 0 is good, 1 a failure, names that are not found among them, 2 wrong options, 130 a stop by Ctrl-C.
    """
