"""The times and limits of the lifecycle, from ``DARKROOM_<FIELD>`` environment variables.

A fault drill scales them; nothing else in the house reads these settings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes, the rest in numbers. Docstrings below each say what it limits."""

    queue_ttl: float = 7 * 86400
    """How long a Generation may wait for a slot, from acceptance or ``scheduled_at``."""
    lease: float = 45
    """How long a worker owns what it has claimed before recovery takes it; renewed while it works."""
    submit_timeout: float = 20
    """The billable call's total limit."""
    blocking_submit_timeout: float = 300
    """The same for providers that hold the submit open until the result is there."""
    sending_grace: float = 60
    """Added to the submit limit for the lease of ``sending``."""
    image_deadline: float = 600
    """A picture's time from ``sending`` until its Generation fails."""
    video_deadline: float = 1800
    """A video's time from ``sending`` until its Generation fails."""
    submission_limit: float = 3600
    """From ``sending``; an abandoned or unknown Submission is given up after it and its slot freed."""
    image_cancel_grace: float = 15
    """In which a finished picture still wins over a cancel."""
    video_cancel_grace: float = 60
    """In which a finished video still wins over a cancel."""
    reconcile_after: float = 15
    """How long an unknown outcome waits for a callback before the provider's own list is read."""
    reconcile_interval: float = 60
    """Between two looks at the provider's list for an attempt whose outcome is unknown."""
    reconcile_skew: float = 60
    """How far the provider's clock may differ from ours when its list is matched."""
    resubmit_after: float = 60
    """From ``sending``: then an unknown attempt is asked once more, where that was configured for its provider."""
    collect_ttl: float = 86400
    """How long a finished result is tried to be fetched and stored."""
    download_timeout: float = 300
    """A download's total limit."""
    download_idle: float = 10
    """A download that brings nothing for so long is broken off."""
    last_look_interval: float = 30
    """Between the tries of a last look at the provider that gets no answer."""
    poll_timeout: float = 15
    """A poll's total limit."""
    image_poll_interval: float = 2
    """The shortest time between two polls of a picture; it grows with the picture's age."""
    video_poll_interval: float = 5
    """The shortest time between two polls of a video; it grows with the video's age."""
    max_poll_interval: float = 30
    """The longest time between two polls of a running job, and the cap of their backoff."""
    missing_grace: float = 60
    """A job that the provider does not know is lost after three misses over this time."""
    empty_grace: float = 120
    """A job that is done without naming a result is given up after five polls over this time."""
    backoff_base: float = 5
    """First wait after an error; doubles each time."""
    backoff_cap: float = 60
    """Longest wait after an error, before the jitter."""
    retry_after_cap: float = 900
    """A provider's Retry-After is believed up to this."""
    probe_after: float = 900
    """An exhausted account without a balance API, or one that was taken out, is tried again after this."""
    balance_max_age: float = 300
    """A stored balance older than this is refreshed before it decides anything."""
    drift_tolerance: float = 0.02
    """Share of what its attempts cost by which a balance may lie too low before it is an incident."""
    error_retries: int = 3
    moderation_retries: int = 1
    busy_bounces: int = 10
    """After these, a busy provider is asked only every ``busy_slow_interval``."""
    busy_slow_interval: float = 300
    not_sent_limit: int = 5
    """Claims that died before they sent anything; more of them is an incident and a failure."""
    poison_claims: int = 5
    """Workers that died at the same attempt, one after the other, until it is stopped; never fewer than 3."""
    poison_poll_interval: float = 600
    """A job whose pollers die is asked about only this often."""
    max_submissions: int = 20
    """Attempts that count (not busy, not ``not_sent``)."""
    collect_tries: int = 5
    last_looks: int = 3
    claim_size: int = 64
    """Most Generations claimed in one transaction."""
    connections: int = 16
    """Parallel HTTP calls of one dispatching, polling, collecting or delivering process."""
    poll_linger: float = 1.5
    """How long a polling task stays for what becomes due meanwhile; below the interval of its messages."""
    polls_per_account: int = 50
    """Most polls in one round for one account."""
    reuse_days: float = 30
    """The age up to which a completed result answers the same request."""
    idempotency_hours: float = 24
    """How long an Idempotency-Key is remembered."""
    collect_backlog: int = 500
    """Results that wait to be fetched; with more, nothing new is sent until half of them are left."""
    disk_floor: int = 1024**3
    """Bytes free where results are stored; with fewer, nothing new is sent until there is a quarter more."""
    batch_items: int = 2000
    """Most items of a batch."""
    batch_text_variations: int = 4
    """Most variations of a text in a batch."""
    max_output_bytes: int = 2 * 1024**3
    max_input_bytes: int = 100 * 1024**2
    library_upload_bytes: int = 256 * 1024**2
    """All pictures together that are uploaded to the library at once."""
    signed_url_seconds: float = 3600
    """How long a link to an Asset's content answers."""
    orphan_hours: float = 24
    """Stored bytes without a row are removed after this."""
    asset_days: float = 0
    """Results older than this expire: their bytes go, the rows stay. 0: they are kept for ever."""
    exports_at_once: int = 2
    """Exports that one process makes at the same time."""
    export_seconds: int = 600
    """CPU time that the export of one video may take."""
    export_tries: int = 3
    """How often an export is tried whose tools fail (the storage's failures do not count)."""
    export_ttl: float = 86400
    """How long an export is tried while the storage fails."""
    webhook_timeout: float = 15
    """A webhook's total limit."""
    webhook_backoff_base: float = 5
    """First wait after a webhook that failed; doubles each time."""
    webhook_backoff_cap: float = 8 * 3600
    """Longest wait between two tries of a webhook, before the jitter; its Retry-After is believed up to this."""
    webhook_ttl: float = 3 * 86400
    """How long a webhook is tried."""
    webhooks_per_host: int = 4
    """Most webhooks under way to one host for one user, in one delivering process."""
    webhook_endpoints: int = 20
    """Most endpoints of a user, and most ``webhook_url``s for one Generation."""
    webhook_secret_hours: float = 24
    """How long the secret before a rotation signs too."""
    webhook_days: float = 30
    """How long ended deliveries are kept, with their tries."""


@cache
def limits() -> Limits:
    """The limits in force.

    Raises:
        ImproperlyConfigured: a ``DARKROOM_`` variable for one of them is not a number.
    """
    given: dict[str, float | int] = {}
    for field in fields(Limits):
        text = settings.DARKROOM.get(field.name)
        if text is None:
            continue
        try:
            given[field.name] = int(text) if field.type == "int" else float(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"DARKROOM_{field.name.upper()} must be a number, not {text!r}.") from error
    return Limits(**given)  # type: ignore[arg-type]


def seconds(value: float) -> timedelta:
    """``value`` seconds as a timedelta."""
    return timedelta(seconds=value)
