"""More processes than the machine can carry are refused before one of them begins."""

import pytest

from workbench import cores
from workbench.cores import check_processes, usable_cores
from workbench.errors import OptionError
from workbench.evaluation.engines import Processes
from workbench.prediction.engines.choosing import chosen_engine


def test_every_usable_core_may_have_a_process():
    check_processes(usable_cores())


@pytest.mark.parametrize("number", [5, 99])
def test_more_than_two_a_core_are_refused(number, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    check_processes(4)
    refused = rf"--processes is {number}, and 2 CPU cores.*Give 2 at best, 4 at most"
    with pytest.raises(OptionError, match=refused):
        Processes(number)
    with pytest.raises(OptionError, match=refused), chosen_engine(device="cpu", processes=number):
        pass


@pytest.mark.parametrize("number", [0, -1])
def test_fewer_than_one_are_none(number):
    with pytest.raises(OptionError, match="at least 1"):
        check_processes(number)
