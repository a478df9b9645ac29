"""Credits: the caller's wallet and its ledger."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import LedgerEntry, Wallet
from generations.api import docs, query
from generations.api.answers import CapUse, CreditsAnswer, LedgerEntryAnswer, LedgerPage
from generations.api.views.base import ApiView, answer, caller, plain
from generations.reports.usage import usage


class CreditsView(ApiView):
    """The wallet."""

    @docs.get_credits
    def get(self, given: Request) -> Response:
        """What is available and what is held (zeros without a wallet), and how much of each cap is used."""
        return answer(_credits(caller(given).pk))


class LedgerView(ApiView):
    """The ledger."""

    query_names = query.PAGING

    @docs.list_ledger
    def get(self, given: Request) -> Response:
        """A page of the wallet's movements, newest first."""
        http, user = plain(given), caller(given)
        rows, links = query.page(http, LedgerEntry.objects.filter(wallet=user.pk), scope=f"ledger of {user.pk}")
        return answer(LedgerPage.of(results=[LedgerEntryAnswer.of(**entry(row)) for row in rows], **links))


def _credits(user_id: int) -> CreditsAnswer:
    wallet = Wallet.objects.filter(user=user_id).first() or Wallet()
    return CreditsAnswer.of(available=wallet.available, held=wallet.held, caps=caps_of(user_id))


def caps_of(user_id: int) -> list[CapUse]:
    """A user's caps and what is used of them."""
    return [CapUse.of(cap=use.cap, limit=use.limit, used=use.used, resets_at=use.resets_at) for use in usage(user_id)]


def entry(row: LedgerEntry) -> dict[str, Any]:
    """What a user may know of an entry."""
    return {
        "id": row.pk,
        "kind": row.kind,
        "available_change": row.available_change,
        "held_change": row.held_change,
        "generation": row.reference,
        "reason": row.reason,
        "created_at": row.created_at,
    }
