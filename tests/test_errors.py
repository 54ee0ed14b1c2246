"""A failure on either side: what is wrong, what to type next, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node import errors as node
from jlab_proxy import errors as proxy

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("errors", [node, proxy], ids=["jlab_node", "jlab_proxy"])
def test_a_failure_is_one_sentence(errors: ModuleType) -> None:
    both = errors.JlabError("port 1 is taken: by pid 7", remedy="choose another", exit_code=2)
    assert str(both) == "port 1 is taken: by pid 7: choose another"
    assert (both.problem, both.remedy) == ("port 1 is taken: by pid 7", "choose another")
    assert both.exit_code == 2
    alone = errors.JlabError("port 1 is taken")
    assert (str(alone), alone.remedy, alone.exit_code) == ("port 1 is taken", "", 1)
