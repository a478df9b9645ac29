"""Whether a retry would be accepted, told for a page of failed Generations in a constant number of queries.

``intake.retry`` decides, one by one and in its own transaction; this only foretells it, in the same order of reasons.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from accounts.credits import PriceList
from accounts.models import UserCap, Wallet
from generations.intake import caps, switches
from generations.intake.errors import Invalid
from generations.intake.validation import validated_params
from generations.lifecycle import LIVE, Status
from generations.models import Generation, GenerationInput, Submission
from generations.reports.capacity import standings
from generations.reports.usage import Use, usages
from generations.reports.waiting import could_run
from providers.errors import InvalidParams
from providers.params import Params

NO_ACCOUNT = "No account may serve it now: all are off, refused or without balance. It would only wait."
POSSIBLY_BILLED = "An attempt may still be billed. Replay it by itself, and insist."
LIVE_TWIN = "The same request is under way already."


@dataclass(frozen=True, slots=True)
class Chance:
    """What would come of one letter: ``price`` is today's (None: free); ``code`` and ``detail`` say why not."""

    letter: Generation
    price: int | None = None
    code: str = ""
    detail: str = ""


class Judge:
    """Looks at letters page by page, in the order in which they would be replayed.

    It keeps in mind what it has let through: two letters with the same request are one request, credits can be spent
    once, and caps fill up.
    """

    def __init__(self, prices: PriceList, *, insist: bool = False) -> None:
        self._prices = prices
        self._insist = insist
        self._now, self._stopped = switches.look()
        self._known: set[int] = set()
        self._left: dict[int, int] = {}
        self._caps: dict[int, list[Use]] = {}
        self._passed: Counter[int] = Counter()
        self._claimed: set[tuple[int, str]] = set()

    def look(self, letters: Sequence[Generation]) -> list[Chance]:
        """One page. Ten queries at most, however long it is."""
        ids = [letter.pk for letter in letters]
        self._meet({letter.user_id for letter in letters} - self._known)
        without = without_account(letters)
        billable = set(Submission.objects.billable().filter(generation__in=ids).values_list("generation", flat=True))
        holders = _holders(letters)
        roles = _roles(ids)
        return [
            self._one(
                letter,
                no_account=letter.pk in without,
                billable=letter.pk in billable,
                holder=holders.get((letter.user_id, letter.fingerprint)),
                roles=roles[letter.pk],
            )
            for letter in letters
        ]

    def _meet(self, users: set[int]) -> None:
        """Read what these users have."""
        if not users:
            return
        self._known |= users
        self._left |= dict(Wallet.objects.filter(pk__in=users).values_list("pk", "available"))
        capped = list(UserCap.objects.filter(pk__in=users))
        if capped:
            self._caps |= usages(capped)

    def _one(
        self, letter: Generation, *, no_account: bool, billable: bool, holder: str | None, roles: Counter[str]
    ) -> Chance:
        if no_account:
            return Chance(letter, code="no_account", detail=NO_ACCOUNT)
        if billable and not self._insist:
            return Chance(letter, code="possibly_billed", detail=POSSIBLY_BILLED)
        try:
            params = validated_params(letter.provider_id, letter.operation_type, letter.params)
            params.check_inputs(roles)
        except Invalid as error:
            return Chance(letter, code=error.code, detail=error.detail)
        except InvalidParams as error:
            return Chance(letter, code="invalid_input", detail=error.detail)
        return self._barred(letter, holder) or self._priced(letter, params)

    def _barred(self, letter: Generation, holder: str | None) -> Chance | None:
        """What T1 looks at before the money."""
        if holder in LIVE or (letter.user_id, letter.fingerprint) in self._claimed:
            return Chance(letter, code="live_twin", detail=LIVE_TWIN)
        if self._stopped:
            return Chance(letter, code=self._stopped.code, detail=self._stopped.detail)
        if holder in {Status.FAILED, Status.CANCELLED} and not self._insist:
            return Chance(letter, code="possibly_billed", detail=POSSIBLY_BILLED)
        for use in self._caps.get(letter.user_id, ()):
            # What is in flight above its cap waits, and is not refused.
            if use.cap != "max_in_flight" and use.used + self._passed[letter.user_id] >= use.limit:
                return Chance(letter, code="user_cap_reached", detail=caps.refusal(use, self._now).detail)
        return None

    def _priced(self, letter: Generation, params: Params) -> Chance:
        price = self._prices.of(letter.provider_id, letter.operation_type, params.model_name, params.output_count)
        left = self._left.get(letter.user_id, 0)
        if price is not None and price > left:
            detail = f"It costs {price} credits, and its user would have {left} left."
            return Chance(letter, price, "insufficient_credits", detail)
        self._left[letter.user_id] = left - (price or 0)
        self._passed[letter.user_id] += 1
        self._claimed.add((letter.user_id, letter.fingerprint))
        return Chance(letter, price)


def without_account(letters: Sequence[Generation]) -> dict[UUID, str]:
    """Those that no account may serve, now or when one comes back by itself, with the words for it. One query."""
    if not letters:
        return {}
    # A retry is a new Generation: no account has refused it yet.
    accounts = standings(
        providers={letter.provider_id for letter in letters}, users={letter.user_id for letter in letters}
    )
    return {letter.pk: NO_ACCOUNT for letter in letters if not could_run(letter, accounts)}


def _holders(letters: Sequence[Generation]) -> dict[tuple[int, str], str]:
    """The status of whoever holds the claim to be the answer, by user and fingerprint."""
    rows = Generation.objects.filter(
        user__in={letter.user_id for letter in letters}, active_fingerprint__in={one.fingerprint for one in letters}
    )
    return {
        (user, text or ""): status for user, text, status in rows.values_list("user", "active_fingerprint", "status")
    }


def _roles(ids: Sequence[UUID]) -> dict[UUID, Counter[str]]:
    roles: dict[UUID, Counter[str]] = defaultdict(Counter)
    for generation_id, role in GenerationInput.objects.filter(generation__in=ids).values_list("generation", "role"):
        roles[generation_id][role] += 1
    return roles
