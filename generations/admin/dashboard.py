"""The console's first page: what runs, what waits and why, what failed, what came out, and whether all is alive."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse

from accounts.admin.words import amount, span
from generations.admin.history import generation_link
from generations.admin.rows import WAIT_WORDS
from generations.admin.tiles import tiles
from generations.lifecycle import Status
from generations.models import Generation
from generations.reports.capacity import Condition
from generations.reports.overview import overview

LATEST = 12


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's callback. Somebody who may not see generations gets the plain list of what he may see."""
    if not request.user.has_perm("generations.view_generation"):
        return {**context, "may_see": False}
    seen = overview()
    return {
        **context,
        "may_see": True,
        "title": "Dashboard",
        "counts": _counts(seen),
        "accounts": [_account(account) for account in seen["accounts"]],
        "failures": seen["failures"],
        "heartbeats": [_heartbeat(row) for row in seen["heartbeats"]],
        "late": [row["name"] for row in seen["heartbeats"] if row["late"]],
        "incidents": seen["incidents_unseen"],
        "held_back": seen["held_back"],
        "waiting": [_waiting(row) for row in seen["oldest_waiting"]],
        "latest": latest(),
    }


def latest() -> list[dict[str, Any]]:
    """The newest results, as pictures with what they are of. Two queries: the newest completed, then their files."""
    newest = Generation.objects.filter(status=Status.COMPLETED).order_by("-pk").only("params")
    return tiles(list(newest[:LATEST]))


def _counts(seen: dict[str, Any]) -> list[dict[str, Any]]:
    changelist = reverse("admin:generations_generation_changelist")
    failed = sum(row["number"] for row in seen["failures"])
    capped = any(row["capped"] for row in seen["failures"])
    shown = [
        ("Waiting", seen["counts"]["pending"], "wait", "status=pending"),
        ("Scheduled", seen["counts"]["scheduled"], "plain", "status=pending"),
        ("Running", seen["counts"]["processing"], "busy", "status=processing"),
        ("Failed in 24 h", {"number": failed, "capped": capped}, "bad", "status=failed"),
    ]
    return [
        {
            "title": title,
            "number": f"{count['number']:,}{'+' if count['capped'] else ''}",
            "tone": tone,
            "url": f"{changelist}?{query}",
        }
        for title, count, tone, query in shown
    ]


def _account(account: dict[str, Any]) -> dict[str, Any]:
    balance = account["balance"]
    tones = {
        "usable": "good",
        "disabled": "plain",
        **dict.fromkeys(("cooling_down", "low_balance", "daily_cap"), "warn"),
    }
    return {
        **account,
        "url": reverse("admin:accounts_account_change", args=[account["id"]]),
        "balance": amount(Decimal(balance)) if balance is not None else "",
        "tone": tones.get(str(account["condition"]), "bad"),
        "words": "ready" if account["condition"] == "usable" else str(Condition(account["condition"]).label),
    }


def _heartbeat(row: dict[str, Any]) -> dict[str, Any]:
    seconds = row["seconds_ago"]
    return {
        **row,
        "words": "never seen" if seconds is None else f"{span(timedelta(seconds=seconds))} ago",
        "tone": "bad" if row["late"] else "good",
    }


def _waiting(row: dict[str, Any]) -> dict[str, Any]:
    reason = row["wait_reason"]
    return {
        **row,
        "link": generation_link(UUID(row["id"])),
        "reason": WAIT_WORDS.get(str(reason), str(reason)) if reason else "about to start",
        "waits": span(timedelta(seconds=row["waits_seconds"])),
    }
