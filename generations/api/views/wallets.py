"""Wallets: what operators see of all users' credits, and what they do with them."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import User
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import LedgerEntry, Wallet
from generations.api import body, docs, query, requests
from generations.api.answers import BookedEntry, BookedPage, WalletAnswer, WalletPage, WalletWithCaps
from generations.api.requests import EntryRequest, RefundRequest
from generations.api.views.base import OperatorView, actor, answer, plain
from generations.api.views.credits import caps_of, entry
from generations.intake import ledger
from generations.intake.ledger import Booked
from generations.models import Generation


class WalletListView(OperatorView):
    """All wallets."""

    query_names = query.PAGING
    may_look, may_do = "accounts.view_wallet", "accounts.change_wallet"

    @docs.list_wallets
    def get(self, given: Request) -> Response:
        """A page of them, of the newest users first."""
        rows, links = query.page(plain(given), Wallet.objects.select_related("user"), scope="wallets")
        return answer(WalletPage.of(results=[WalletAnswer.of(**_wallet(row)) for row in rows], **links))


class WalletView(OperatorView):
    """One user's wallet."""

    may_look, may_do = "accounts.view_wallet", "accounts.change_wallet"

    @docs.get_wallet
    def get(self, given: Request, username: str) -> Response:
        """What is available and held (zeros without a wallet), and the user's caps."""
        user = _user(username)
        wallet = Wallet.objects.filter(user=user).first() or Wallet()
        wallet.user = user
        return answer(WalletWithCaps.of(**_wallet(wallet), caps=caps_of(user.pk)))


class WalletLedgerView(OperatorView):
    """One user's ledger: read it, and add to it."""

    query_names = query.PAGING
    may_look, may_do = "accounts.view_ledgerentry", "accounts.change_wallet"

    @docs.list_wallet_ledger
    def get(self, given: Request, username: str) -> Response:
        """A page of a user's movements, newest first."""
        user = _user(username)
        entries = LedgerEntry.objects.filter(wallet=user.pk)
        rows, links = query.page(plain(given), entries, scope=f"ledger of {user.pk} for operators")
        return answer(BookedPage.of(results=[_booked(row, user) for row in rows], **links))

    @docs.book_entry
    def post(self, given: Request, username: str) -> Response:
        """201 with the entry; the same Idempotency-Key moves credits once."""
        http, user = plain(given), _user(username)
        wanted = requests.read(EntryRequest, body.json_object(http))
        key = requests.needed_key(http)
        made = ledger.book(
            user.pk,
            wanted.amount,
            reason=wanted.reason,
            actor=actor(given),
            key=key,
        )
        return _answer(made, user)


class RefundView(OperatorView):
    """Any user's completed Generation."""

    may_look = may_do = "accounts.change_wallet"

    @docs.refund_generation
    def post(self, given: Request, generation_id: UUID) -> Response:
        """201 with the entry of the ledger; the same Idempotency-Key is answered alike."""
        http = plain(given)
        wanted = requests.read(RefundRequest, body.json_object(http))
        key = requests.key_of(http) or ""
        try:
            made = ledger.refund(generation_id, reason=wanted.reason, amount=wanted.amount, actor=actor(given), key=key)
        except Generation.DoesNotExist:
            raise Http404 from None
        return _answer(made, User.objects.get(pk=made.entry.wallet_id))


def _user(username: str) -> User:
    row = User.objects.filter(username=username).first() if username.isprintable() else None
    if row is None:
        raise Http404
    return row


def _wallet(row: Wallet) -> dict[str, object]:
    return {"user": row.user.get_username(), "available": row.available, "held": row.held}


def _booked(row: LedgerEntry, user: User) -> BookedEntry:
    return BookedEntry.of(**entry(row), user=user.get_username(), actor=row.actor)


def _answer(made: Booked, user: User) -> Response:
    headers = {"Idempotent-Replayed": "true"} if made.replayed else {}
    return answer(_booked(made.entry, user), 201, **headers)
