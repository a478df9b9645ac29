"""What the tests of the lifecycle do again and again: ask, dispatch, poll, collect, and let time pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from accounts.models import Account, LedgerEntry, Wallet
from config.first_run import sandbox_base_url
from generations.execution import collect, dispatch, poll
from generations.intake.request import Request, accept
from generations.intake.store import Reuse
from generations.lifecycle import State, Status
from generations.models import Asset, Generation, Incident, Submission
from providers.sandbox.client import SandboxControl
from tests.factories import AccountFactory, PriceFactory, UserFactory, WalletFactory

PRICE = 10
PURSE = 1000
LONG_AGO = timedelta(hours=2)
MOST_ROUNDS = 300


class Studio:
    """One user with 1,000 credits; pictures by ModelsLab cost 10."""

    def __init__(self, sandbox: SandboxControl) -> None:
        self.sandbox = sandbox
        self._user: User | None = None

    @property
    def user(self) -> User:
        """The user, made when first asked for."""
        if self._user is None:
            self._user = UserFactory.create()
            WalletFactory.create(user=self._user, available=PURSE)
            PriceFactory.create(provider_id="modelslab", credits=PRICE)
        return self._user

    def account(self, provider_id: str = "modelslab", *, key: str = "sandbox", **fields: Any) -> Account:
        """An account that the sandbox plays; ``key`` begins its key (``sandbox-broke``: no credits)."""
        return AccountFactory.create(
            provider_id=provider_id,
            base_url=fields.pop("base_url", sandbox_base_url(provider_id, self.sandbox.base_url)),
            credentials={"api_key": f"{key}-{uuid4().hex}"},
            **fields,
        )

    def ask(self, fault: str = "", *, user: User | None = None, samples: int = 1, **more: Any) -> Generation:
        """Ask for a small picture that takes the sandbox a moment; ``fault`` as in ``"429:30"``, several by blanks."""
        markers = "".join(f"[[fault:{one}]]" for one in fault.split())
        params = {"prompt": f"a lighthouse {uuid4().hex} {markers}".strip(), "width": 264, "height": 264}
        if samples > 1:
            params["samples"] = samples
        request = Request("modelslab", "text_to_image", params, **more)
        owner = user or self.user
        return accept(owner.pk, request, actor=f"user:{owner.pk}").generation

    def send_video(self, fault: str = "", *, prompt: str = "", reuse: Reuse = "completed") -> Submission:
        """Ask for a small video at Pixverse and send it; the attempt."""
        markers = "".join(f"[[fault:{one}]]" for one in fault.split())
        params = {"prompt": f"{prompt or f'a lighthouse {uuid4().hex}'} {markers}".strip(), "quality": "360p"}
        request = Request("pixverse", "text_to_video", params, reuse=reuse)
        made = accept(self.user.pk, request, actor=f"user:{self.user.pk}").generation
        dispatch.dispatch("pixverse")
        return self.attempt(made)

    # --- the workers' work ------------------------------------------------------------------

    def dispatch(self) -> int:
        """One wake-up for ModelsLab."""
        return dispatch.dispatch("modelslab")

    def start(self, fault: str = "", **more: Any) -> tuple[Generation, Submission]:
        """Ask and dispatch; the Generation and its newest attempt."""
        generation = self.ask(fault, **more)
        self.dispatch()
        return self.look(generation), self.attempt(generation)

    def poll(self) -> int:
        """One round of polls of all accepted ones."""
        Submission.objects.filter(state=State.ACCEPTED).update(next_poll_at=timezone.now() - LONG_AGO)
        return poll.poll()

    def poll_until(self, check: Callable[[], bool]) -> None:
        """Poll, at once again, until ``check`` says yes; the sandbox takes its 20 ms."""
        for _ in range(MOST_ROUNDS):
            self.poll()
            if check():
                return
            time.sleep(0.005)
        raise AssertionError("that many polls brought nothing")

    def poll_to_the_end(self, submission: Submission) -> Submission:
        """Poll until the provider's job has ended."""
        self.poll_until(lambda: not Submission.objects.filter(pk=submission.pk, state=State.ACCEPTED).exists())
        submission.refresh_from_db()
        return submission

    def collect(self) -> int:
        """One round of fetching, of those too whose next try is later."""
        Submission.objects.filter(state=State.COLLECTING).update(lease_until=None)
        return collect.collect()

    def finish(self, generation: Generation) -> Generation:
        """Everything until it has ended; waits between attempts are skipped."""
        for _ in range(MOST_ROUNDS):
            self.due()
            self.dispatch()
            self.poll()
            self.collect()
            if not self.look(generation).is_live:
                return generation
            time.sleep(0.005)
        raise AssertionError(f"it does not end: {generation.status}")

    # --- time --------------------------------------------------------------------------------

    @staticmethod
    def due() -> None:
        """What waits until some time waits no more, and accounts have cooled down."""
        past = timezone.now() - LONG_AGO
        Generation.objects.filter(status=Status.PENDING, not_before__isnull=False).update(not_before=past)
        Account.objects.filter(cooldown_until__isnull=False).update(cooldown_until=past)

    @staticmethod
    def past(row: Submission | Generation | Account, *names: str) -> None:
        """These times of a row are over."""
        at = timezone.now() - LONG_AGO
        type(row)._default_manager.filter(pk=row.pk).update(**dict.fromkeys(names, at))
        row.refresh_from_db()

    # --- looking ------------------------------------------------------------------------------

    @staticmethod
    def look(generation: Generation) -> Generation:
        """As it is now."""
        generation.refresh_from_db()
        return generation

    @staticmethod
    def attempt(generation: Generation) -> Submission:
        """The newest attempt."""
        return Submission.objects.select_related("account", "generation").filter(generation=generation).latest("number")

    @staticmethod
    def states(generation: Generation) -> list[str]:
        """The states of its attempts, in order."""
        return list(Submission.objects.filter(generation=generation).order_by("number").values_list("state", flat=True))

    def submits(self, generation: Generation) -> list[str]:
        """The attempts that the sandbox saw a submit of, as it wrote down itself."""
        ours = {str(pk) for pk in Submission.objects.filter(generation=generation).values_list("pk", flat=True)}
        return [call["request_id"] for call in self.sandbox.record(kind="submit") if call["request_id"] in ours]

    @staticmethod
    def money(generation: Generation) -> list[str]:
        """What was done with its credits."""
        return sorted(LedgerEntry.objects.filter(reference=generation.pk).values_list("kind", flat=True))

    @property
    def wallet(self) -> tuple[int, int]:
        """Available and held."""
        wallet = Wallet.objects.get(user=self.user)
        return wallet.available, wallet.held

    @staticmethod
    def incidents(of: Submission) -> list[str]:
        """What people were told about an attempt."""
        return sorted(Incident.objects.filter(submission=of).values_list("kind", flat=True))

    @staticmethod
    def assets(generation: Generation) -> list[Asset]:
        """Its results."""
        return list(Asset.objects.filter(submission__generation=generation).order_by("index"))

    @staticmethod
    def events(generation: Generation) -> list[str]:
        """The kinds of its Events, in order."""
        return list(generation.events.order_by("id").values_list("kind", flat=True))


def stale(row: Submission) -> UUID:
    """Take a Submission away from whoever owns or polls it; the token that it had."""
    before = row.token
    Submission.objects.filter(pk=row.pk).update(token=uuid4(), poll_token=uuid4())
    return before


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Do these at the same moment, each on a connection of its own; what came of each (or its error), in no order."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            results.append(work())
        except Exception as error:  # noqa: BLE001  a test looks at it
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
