"""The catalogue of faults, and which of them a submit gets: by marker in its prompt, or by seeded rates."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

# phase -> fault -> what happens. The phase says when it strikes:
#   refuse    instead of accepting; no work is created, nothing is charged
#   reply     work is created and charged; the reply to the submit is spoilt
#   course    the work itself goes another way
#   poll      answers to status calls are spoilt
#   media     the stored result is spoilt
#   callback  what we tell the caller by webhook is spoilt
CATALOGUE: dict[str, dict[str, str]] = {
    "refuse": {
        "500_before": "HTTP 500 with the provider's own error body",
        "503_before": "HTTP 503 with the provider's own error body and Retry-After (argument: seconds, 5)",
        "429": "HTTP 429 with Retry-After (argument: its value as it stands, 5)",
        "concurrency": "the provider's own 'too many at once' error",
        "moderated_input": "the prompt is refused by moderation",
        "no_credits": "the provider's own 'no credits' error",
        "auth_failed": "the provider's own 'wrong key' error",
        "forbidden": "the provider's own 'not allowed' error",
        "invalid_params": "the provider's own 'invalid parameter' error",
        "key_echo": "an error whose text repeats the API key",
        "drop_before": "the connection is closed without a reply and nothing is created",
    },
    "reply": {
        "accept_then_drop": "the connection is closed without a reply",
        "500_after": "HTTP 500 with a bare HTML page",
        "malformed": "HTTP 200 with HTML (argument html, the default), cut JSON (truncated) or nothing (empty)",
        "no_id": "HTTP 200, success, but no id",
        "bad_id": "HTTP 200 with an id that is none (argument object, the default, or long: 10 kB)",
        "same_id": "HTTP 200 with the id of this key's previous work",
        "slow_submit": "the reply comes late (argument: seconds, 5)",
    },
    "course": {
        "job_failed": "the work ends in the provider's 'failed'",
        "moderated_output": "the result is withheld by moderation (ModelsLab: blurred and flagged; argument failed)",
        "late_moderation": "reported as finished with a placeholder (default.mp4) instead of the result",
        "never_finishes": "the work runs until the sandbox's own limit (--never seconds), then fails",
        "no_url": "reported as finished without an output",
        "bad_url": "reported as finished with an output that is no web address (argument, file:///etc/passwd)",
        "partial": "one output fewer than asked for",
        "instant": "finished in the reply to the submit, where the protocol can say so",
        "lost_job": "every status call answers 'not found'",
    },
    "poll": {
        "poll_500_once": "a status call answers HTTP 500 (argument: how many, 1)",
        "poll_503_once": "a status call answers HTTP 503 with Retry-After (argument: how many, 1)",
        "poll_429_once": "a status call answers HTTP 429 with Retry-After (argument: how many, 1)",
        "poll_malformed_once": "a status call answers HTTP 200 with HTML (argument: how many, 1)",
        "poll_404_once": "a status call answers 'not found' (argument: how many, 1)",
        "poll_drop_once": "a status call gets no answer (argument: how many, 1)",
        "poll_unknown_status": "a status call reports a status nobody knows (argument: how many, 2)",
    },
    "media": {
        "404_url": "the result's URL is not found, ever",
        "expired_url_once": "the first URL is not found; a later status call gives a fresh one",
        "media_500_once": "the first download answers HTTP 500",
        "slow_drip": "the result comes at one byte per second, for ten minutes at most",
        "huge": "the result says it has 500 GB and never ends (argument chunked: says no length)",
        "truncated": "the result ends before its Content-Length",
        "html_media": "the result is HTML under the right name and type",
        "zero_bytes": "the result is empty",
        "giant_picture": "the result is a PNG that says it has 50,000 x 50,000 pixels",
        "svg_media": "the result is an SVG with a script, under the right name and type",
    },
    "callback": {
        "duplicate_callback": "the callback is sent twice",
        "forged_callback": "a callback with a wrong signature or false content comes while the work still runs",
        "lost_callback": "no callback is sent",
    },
}
PHASE_OF = {name: phase for phase, faults in CATALOGUE.items() for name in faults}
NONE = "none"

_MARKER = re.compile(r"\[\[fault:([a-z0-9_]+)(?::([^\]*]*))?(?:\*(\d+))?\]\]")


class UnknownFault(ValueError):
    """A fault's name or rate is not in the catalogue's terms."""


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker: ``[[fault:name:argument*times]]``; ``times`` None means every submit."""

    name: str
    argument: str
    times: int | None


def markers(prompt: str) -> list[Marker]:
    """The markers in a prompt, in order. Raises UnknownFault for a name that is not in the catalogue."""
    found = []
    for match in _MARKER.finditer(prompt):
        name = match[1]
        if name != NONE and name not in PHASE_OF:
            raise UnknownFault(f"There is no fault named {name}. Known: {', '.join(sorted(PHASE_OF))}.")
        found.append(Marker(name, match[2] or "", int(match[3]) if match[3] else None))
    return found


def without_markers(prompt: str) -> str:
    """The prompt as a person would read it: what is drawn and written under the picture."""
    return " ".join(_MARKER.sub(" ", prompt).split())


def checked_rates(rates: Mapping[str, object]) -> dict[str, float]:
    """Validate ``{fault: probability}``: known names, each in 0..1, 1 at most in all. Raises UnknownFault."""
    result: dict[str, float] = {}
    for name, rate in rates.items():
        if name not in PHASE_OF:
            raise UnknownFault(f"There is no fault named {name}. Known: {', '.join(sorted(PHASE_OF))}.")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise UnknownFault(f"The rate of {name} must be a number from 0 to 1.")
        result[name] = float(rate)
    if sum(result.values()) > 1 + 1e-9:
        raise UnknownFault("The rates add up to more than 1; each submit gets one fault at most.")
    return result


def draw(rates: Mapping[str, float], seed: int, number: int) -> str | None:
    """The fault of the ``number``-th submit under ``rates``: the same for the same seed and number."""
    if not rates:
        return None
    point = random.Random(f"{seed}:{number}").random()
    for name in sorted(rates):
        point -= rates[name]
        if point < 0:
            return name
    return None


def prompt_digest(prompt: str) -> str:
    """What the record knows a marked prompt by."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
