"""Balances: what accounts had left at their providers day by day, and what their attempts explain."""

from __future__ import annotations

from decimal import Decimal

from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import BalanceReading
from generations.api import docs, query
from generations.api.answers import ReadingAnswer, ReadingPage
from generations.api.views.base import OperatorView, answer, plain
from generations.execution.balances import decimal_text
from generations.reports.balances import words


class BalanceListView(OperatorView):
    """The daily comparison."""

    query_names = query.PAGING | {"account"}
    may_look = may_do = "accounts.view_balancereading"

    @docs.list_balances
    def get(self, given: Request) -> Response:
        """A page of readings, newest first; of one account where it is named."""
        http = plain(given)
        rows = BalanceReading.objects.select_related("account")
        account = query.identifier(http.GET, "account")
        if account is not None:
            rows = rows.filter(account=account)
        found, links = query.page(http, rows, scope=f"balances of {account}")
        return answer(ReadingPage.of(results=[_reading(row) for row in found], **links))


def _reading(row: BalanceReading) -> ReadingAnswer:
    return ReadingAnswer.of(
        account=row.account_id,
        provider_id=row.account.provider_id,
        label=row.account.label,
        unit=row.account.balance_unit,
        day=row.day,
        balance=_text(row.balance),
        expected=_text(row.expected),
        drift=_text(row.drift),
        tolerated=_text(row.tolerated),
        spent=_text(row.spent),
        failed=_text(row.failed),
        attempts=row.attempts,
        unpriced=row.unpriced,
        final=row.settled_at is not None,
        text=words(row),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)
