"""Two processes at one place: the second is told who has it, and the first is not disturbed."""

import random
import re
import socket
import time
from dataclasses import replace

from tests.soak.rounds import Outcome, answered, begin, examine, recover, with_findings
from tests.soak.scenarios import Scenario
from tests.soak.workplace import Workplace


def second_process_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """The command is given again while it runs. Where it holds its folder, the second is refused by name."""
    usual = place.undisturbed(scenario)
    place.fresh()
    wait = draw.random() * 0.9 * usual.seconds
    outcome = begin(scenario, "two processes", f"the second {wait:.3f} s after the first")
    logs = place.logs / "second"
    logs.mkdir(exist_ok=True)
    first = place.start(scenario.arguments)
    time.sleep(wait)
    second = place.finish(place.start(scenario.repeated, logs=logs), logs)
    ended = place.finish(first)
    holder = rf"in use by process \d+ on {re.escape(socket.gethostname())}, since \d{{4}}-|exists already"
    outcome = answered(outcome, second, holder)
    # The second may have been first, where the first still had everything to import.
    outcome = replace(answered(outcome, ended, holder), ended=outcome.ended, strikes=1)
    if ended.code != 0 and second.code != 0:
        outcome = with_findings(outcome, begin(scenario, "", "", losses=("both were refused",)))
    outcome = with_findings(outcome, examine(place, scenario, usual))
    return recover(place, scenario, usual, outcome)
