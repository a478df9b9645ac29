"""What surrounds every console page: the navigation, with the count of incidents that nobody has seen."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from generations.admin.incident import unseen
from generations.reports.deadletters import recent
from generations.reports.unknowns import waiting

_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Work",
        (
            ("Generations", "photo_library", "generations.generation"),
            ("Batches", "grid_view", "generations.batch"),
            ("Chapters", "auto_stories", "generations.chapter"),
            ("Scenes", "theaters", "generations.scene"),
            ("Attempts", "send", "generations.submission"),
            ("Unknown outcomes", "help", "generations.unknownoutcome"),
            ("Dead letters", "unsubscribe", "generations.deadletter"),
            ("Incidents", "warning", "generations.incident"),
            ("Assets", "folder_open", "generations.asset"),
            ("Exports", "aspect_ratio", "generations.export"),
            ("Switches", "toggle_on", "generations.switch"),
        ),
    ),
    (
        "Studio",
        (
            ("Library", "photo_album", "generations.libraryitem"),
            ("Prompts", "edit_note", "generations.prompt"),
            ("Prompt versions", "history_edu", "generations.promptversion"),
        ),
    ),
    (
        "Providers and credits",
        (
            ("Accounts", "key", "accounts.account"),
            ("Provider settings", "tune", "generations.providersetting"),
            ("Rules for errors", "rule", "generations.codeoverride"),
            ("Prices", "sell", "accounts.price"),
            ("Wallets", "account_balance_wallet", "accounts.wallet"),
            ("Ledger", "receipt_long", "accounts.ledgerentry"),
            ("Balances", "monitoring", "accounts.balancereading"),
        ),
    ),
    (
        "People",
        (
            ("Users", "person", "auth.user"),
            ("User caps", "speed", "accounts.usercap"),
            ("Groups", "group", "auth.group"),
            ("API tokens", "vpn_key", "knox.authtoken"),
        ),
    ),
    (
        "Webhooks",
        (
            ("Endpoints", "webhook", "generations.webhookendpoint"),
            ("Deliveries", "outgoing_mail", "generations.webhookdelivery"),
        ),
    ),
    (
        "Machinery",
        (
            ("Events", "timeline", "generations.event"),
            ("Batch items", "view_list", "generations.batchitem"),
            ("Inputs", "input", "generations.generationinput"),
            ("Chapter members", "group_add", "generations.chaptermember"),
            ("Account refusals", "block", "generations.accountexclusion"),
            ("Idempotency keys", "fingerprint", "generations.idempotencykey"),
            ("Callback nonces", "tag", "generations.callbacknonce"),
            ("Webhook tries", "history", "generations.webhookattempt"),
            ("Webhook secrets", "lock", "generations.webhooksecret"),
            ("Favourites", "favorite", "generations.libraryfavourite"),
            ("Heartbeats", "ecg_heart", "generations.heartbeat"),
            ("Held back", "front_hand", "generations.heldback"),
            ("Periodic tasks", "schedule", "django_celery_beat.periodictask"),
            ("Intervals", "timer", "django_celery_beat.intervalschedule"),
        ),
    ),
)


BADGES = {
    "generations.incident": unseen,
    "generations.unknownoutcome": waiting,
    "generations.deadletter": recent,
}
"""What waits for a person, counted up to 100."""


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """unfold's sidebar: what this person may see."""
    groups: list[dict[str, Any]] = [{"title": None, "separator": False, "items": _ways_out()}]
    for title, entries in _GROUPS:
        items = [_item(*entry) for entry in entries if _may_see(request, entry[2])]
        if items:
            groups.append({"title": title, "separator": True, "collapsible": title == "Machinery", "items": items})
    return groups


def links() -> list[tuple[str, str, str]]:
    """(title, icon, URL) of what stands beside the console: the API's documentation, and Flower where configured."""
    found = [("API documentation", "menu_book", reverse("api:docs"))]
    if settings.FLOWER_URL:
        found.append(("Flower", "local_florist", settings.FLOWER_URL))
    return found


def _ways_out() -> list[dict[str, Any]]:
    home = {"title": "Dashboard", "icon": "dashboard", "link": reverse("admin:index")}
    results = {"title": "Newest results", "icon": "auto_awesome_mosaic", "link": reverse("pages:home"), "active": False}
    return [home, results, *({"title": title, "icon": icon, "link": url} for title, icon, url in links())]


def _item(title: str, icon: str, model: str) -> dict[str, Any]:
    app, name = model.split(".")
    item: dict[str, Any] = {"title": title, "icon": icon, "link": reverse(f"admin:{app}_{name}_changelist")}
    if model in BADGES and (number := BADGES[model]()):
        item["badge"] = f"{number}+" if number == 100 else str(number)
        item["badge_variant"] = "danger"
        item["badge_style"] = "solid"
    return item


def _may_see(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    return request.user.has_perm(f"{app}.view_{name}") or request.user.has_perm(f"{app}.change_{name}")
