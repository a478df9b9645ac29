"""Work that ends whoever takes it: counted at each claim, taken alone, and stopped.

A result whose decoding eats all memory, a reply that crashes a library: the process is gone and nothing is written.
So each claim of a Submission adds one to ``unwritten_claims``, and whatever is written about it sets that back.

1. A claim that was not heard of again is nothing special: workers are killed for many reasons.
2. After ``SUSPECT_AFTER`` of them the Submission is a suspect, and is taken alone. Who only stood beside the
   culprit is written about then, and is no suspect any more.
3. After ``most_claims()`` collecting is given up, and polling becomes rare (``limits().poison_poll_interval``).

Dispatch counts the same on the Generation (``not_sent``), because there each claim is another Submission.
"""

from __future__ import annotations

from django.db.models import F, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Least

from generations.conf import limits
from generations.models.generation import SUSPECT_AFTER

MOST_COUNTED = 1000


def most_claims() -> int:
    """So many claims without a word stop the work; more than make a suspect, so that nobody is stopped for another."""
    return max(limits().poison_claims, SUSPECT_AFTER + 1)


def one_more() -> Combinable:
    """The new value of ``unwritten_claims`` at a claim."""
    return Least(F("unwritten_claims") + 1, Value(MOST_COUNTED))
