"""The promises hold in every order of everybody's moves that Hypothesis can think of.

The short run is the same each time. A long one looks for new orders, in rounds with seeds that pytest prints:
``HYPOTHESIS_PROFILE=long pytest tests/proof/test_state_machine.py``; ``PROOF_SEEDS=17,18`` makes just those rounds, and
an example of theirs that fails is made as short as can be, which takes minutes.
"""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from generations.execution.results import StoredOutput
from tests.proof.clock import Clock
from tests.proof.desk import Audit
from tests.proof.machine import Machine

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
CHOSEN = [int(text) for text in os.environ.get("PROOF_SEEDS", "").split(",") if text]
SEEDS = CHOSEN or ([secrets.randbelow(10**6) for _ in range(200)] if LONG else [1, 2])
# Of a round's first ten examples each is new; later ones would mostly be variations of them.
ROUND = settings(
    max_examples=10 if LONG or CHOSEN else 5,
    stateful_step_count=60 if LONG else 40,
    phases=[Phase.generate, Phase.shrink] if CHOSEN else [Phase.generate],
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(0)  # making an example short takes its time
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("number", SEEDS)
def test_keeps_its_promises_in_any_order_of_events(
    number: int, clock: Clock, audit: Audit, picture: StoredOutput
) -> None:
    class Ready(Machine):
        def __init__(self) -> None:
            super().__init__(clock, audit, picture)

    run_state_machine_as_test(seed(number)(Ready), settings=ROUND)
