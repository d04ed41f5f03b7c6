"""Where commands are put under faults: a world that is laid out anew for every round, always at the same path."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.reference import sessions
from tests.soak import oracle
from tests.soak.faults import Begun, CountEvents, Surroundings
from tests.soak.scenarios import WORLD, Scenario, lay_out

_NAMES_FAILED_IMAGES = re.compile(r"\d+ failed\n  \S+: .*\w")
_CTRL_C_IN_A_DESTRUCTOR = re.compile(  # which Python itself tells and ignores, wherever that happens
    r"Exception ignored in: .*\nTraceback \(most recent call last\):\n(?: .*\n|\n)*KeyboardInterrupt: *\n"
)
_IGNORED = ("cache",)  # what can be computed again


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Of its exit, or minus the signal that ended it."""
    stderr: str

    @property
    def died(self) -> bool:
        """Whether a signal ended it, or it said that one stopped it."""
        return self.code < 0 or self.code == 130 or (self.code == 1 and self.stderr.rstrip().endswith("Aborted!"))

    def unclear(self) -> list[str]:
        """What is wrong with how it ended."""
        told = _CTRL_C_IN_A_DESTRUCTOR.sub("", self.stderr)
        found = ["a traceback on stderr"] if "Traceback (most recent call last)" in told else []
        if not self.died and self.code not in (0, 1):
            found.append(f"exit code {self.code}")
        explained = "Error: " in self.stderr or _NAMES_FAILED_IMAGES.search(self.stderr)
        if self.code == 1 and not self.died and not explained:
            found.append("exit code 1 without a message")
        return [f"{what}: {self.stderr[-1500:]}" for what in found]


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when nothing befalls it."""

    contents: oracle.Contents
    earlier: oracle.Contents
    """What was at the same places before."""
    rows: Mapping[str, str]
    """Of a run: `oracle.rows_of_images`."""
    seconds: float
    events: int
    sizes: tuple[int, ...]
    """Bytes of each file that it writes, in the cache too."""


class Workplace:
    """A folder with `template/`, the world as it is before each round, and `world/`, where the round happens."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.template, self.world, self.logs = (
            folder,
            *(folder / name for name in ("template", "world", "logs")),
        )
        self.logs.mkdir(parents=True)
        self._undisturbed: dict[str, Undisturbed] = {}
        self.world.mkdir()
        lay_out(self.world)
        for arguments in WORLD:
            ended = self.finish(self.start(arguments))
            if ended.code != 0:
                raise RuntimeError(f"{' '.join(arguments)}: {ended.stderr}")
        shutil.rmtree(self.world / "cache")
        shutil.copytree(self.world, self.template)

    def fresh(self) -> Path:
        """The world, laid out anew."""
        shutil.rmtree(self.world)
        shutil.copytree(self.template, self.world)
        return self.world

    def start(
        self, arguments: Sequence[str], fault: Callable[[], None] | None = None, logs: Path | None = None
    ) -> ForkServerProcess:
        """The command in the world, with a fault from inside."""
        environment = {"WORKBENCH_CACHE": str(self.world / "cache")}
        return sessions.start(self.world, arguments, Surroundings(environment, fault), logs or self.logs)

    def finish(self, process: ForkServerProcess, logs: Path | None = None) -> Ended:
        """Wait for it."""
        code = sessions.finish(process)
        assert code is not None
        return Ended(code, ((logs or self.logs) / "stderr.txt").read_text(errors="replace"))

    def run(self, arguments: Sequence[str], fault: Callable[[], None] | None = None) -> Ended:
        """The command to its end, whatever that is."""
        return self.finish(self.start(arguments, fault))

    def strike(self, arguments: Sequence[str], signal_number: int, seconds: float) -> Ended:
        """The command, which gets the signal so many seconds after its begin, if it still runs then."""
        begun = self.logs / "begun"
        begun.unlink(missing_ok=True)
        process = self.start(arguments, Begun(begun))
        sessions.wait_for(begun, process)
        process.join(seconds)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal_number)
        return self.finish(process)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """What the scenario's command does when nothing befalls it; found out once."""
        if scenario.name not in self._undisturbed:
            self._undisturbed[scenario.name] = self._find_out(scenario)
        return self._undisturbed[scenario.name]

    def _find_out(self, scenario: Scenario) -> Undisturbed:
        counter = self.logs / "events"
        counter.unlink(missing_ok=True)
        world = self.fresh()
        earlier = oracle.contents(world, *scenario.outputs)
        process = self.start(scenario.arguments, CountEvents(counter))
        sessions.wait_for(counter, process)
        begun = time.monotonic()
        ended = self.finish(process)
        seconds = time.monotonic() - begun
        if ended.code != 0:
            raise RuntimeError(f"{' '.join(scenario.arguments)}: {ended.stderr}")
        rows = {} if scenario.run is None else oracle.rows_of_images(world / scenario.run)
        made = oracle.contents(world, *scenario.outputs)
        written = [path for path in world.rglob("*") if path.is_file() and _is_new(path, self.template, world)]
        sizes = tuple(path.stat().st_size for path in written)
        return Undisturbed(made, earlier, rows, seconds, counter.stat().st_size, sizes)

    def damage_to_others(self, scenario: Scenario) -> list[str]:
        """What has become of files that the scenario's command has nothing to do with."""
        without = (*scenario.outputs, *_IGNORED)
        found = {name: digest for name, digest in oracle.raw(self.world, without).items() if not _hidden(name)}
        return oracle.differences(found, self._others(without))

    def _others(self, without: tuple[str, ...]) -> oracle.Contents:
        names = tuple(f"{name}/" for name in without)
        return {
            name: digest
            for name, digest in self._template_files.items()
            if name not in without and not name.startswith(names)
        }

    @cached_property
    def _template_files(self) -> oracle.Contents:
        return {name: digest for name, digest in oracle.raw(self.template, ()).items() if not _hidden(name)}


def _is_new(path: Path, template: Path, world: Path) -> bool:
    same = template / path.relative_to(world)
    return not same.exists() or path.stat().st_mtime_ns != same.stat().st_mtime_ns


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
