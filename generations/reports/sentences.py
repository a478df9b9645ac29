"""What the kinds of Events and attempts' ends are called for people: one sentence each."""

from __future__ import annotations

from typing import Any

from generations.models import Event, Submission
from generations.reports.spans import span
from providers import registry
from providers.registry import UnknownProvider

KIND = Event.Kind

# {attempt}: "Attempt 2"; {reason}: code and message; {because}: the message in brackets, or nothing.
EVENTS = {
    KIND.ACCEPTED: "The request was accepted{retry_of}.",
    KIND.REUSED: "The same request came again and was answered with this one.",
    KIND.CLAIM_LOST: "It answers this request no longer: a newer one was made.",
    KIND.RETRIED: "It was retried{changed} as {newer}.",
    KIND.WOKEN: "It was made due at once.",
    KIND.CANCEL_REQUESTED: "Its cancel was asked for.",
    KIND.RETRYING: "{attempt} ended without a result ({reason}). Another one follows {when}{rule}.",
    KIND.RECOVERED: "{attempt} was left by its worker and taken over.",
    KIND.OUTCOME_UNKNOWN: "{attempt} may have reached the provider or not{because}. It is not sent again by itself.",
    KIND.CALLBACK: "The provider called back.",
    KIND.FOUND: "{attempt} was found in the provider's own list: it is job {job}.",
    KIND.EVIDENCE: "The provider's own list was read for {attempt}{because}.",
    KIND.RESUBMITTED: "{attempt} was not heard of, and its provider bills nobody: it is asked once more.",
    KIND.RESOLVED: "A person said of {attempt}: {decision}{because}.",
    KIND.COLLECT_FAILED: "The result of {attempt} could not be fetched and stored ({reason}).",
    KIND.ABANDONED: "{attempt} may still be billed: it is followed on by itself until the provider is done.",
    KIND.LATE_RESULT: "{attempt} brought a result after the end. It is kept, and not charged.",
    KIND.REFUNDED: "An operator gave back what it had cost{because}.",
    KIND.COMPLETED: "Completed{partial}.",
    KIND.DISMISSED: "It was dismissed: nothing is to be done about it{because}.",
    KIND.RESTORED: "It is a dead letter again; its dismissal was taken back.",
    KIND.CHOSEN: "It was {chosen} of scene {scene}.",
    KIND.LEFT_SCENE: "It was taken out of scene {scene}. What it has made is kept.",
    KIND.FILES_REMOVED: "Its files were removed, as they had become too old; it answers this request no longer.",
    KIND.FAILED: "Failed: {reason}{rule}.",
    KIND.CANCELLED: "Cancelled.",
}

DECISIONS = {
    Submission.Resolution.BILLED.value: "the provider took it",
    Submission.Resolution.NOT_BILLED.value: "the provider never took it",
    Submission.Resolution.RESUBMIT.value: "ask again all the same",
}


def event_text(event: Event) -> str:
    """An Event as a sentence."""
    data: dict[str, Any] = event.data or {}
    delay = float(data.get("delay") or 0)
    retry_of = data.get("retry_of")
    template = EVENTS.get(KIND(event.kind), "{kind}.") if event.kind in KIND.values else "{kind}."
    text = template.format(
        kind=event.kind,
        attempt=f"Attempt {event.attempt}" if event.attempt else "An attempt",
        reason=reason(data.get("code"), data.get("message")),
        because=f" ({message})" if (message := _plain(data.get("message"))) else "",
        when=f"after {span(delay)}" if delay else "as soon as a slot is free",
        retry_of=f" as a retry of {retry_of}" if retry_of else "",
        partial=f" with {data['outputs']} of {data.get('expected')} outputs" if data.get("partial") else "",
        job=data.get("job_id") or "unknown",
        decision=DECISIONS.get(str(data.get("decision")), "it is settled"),
        changed=f" with another {' and '.join(data['changed'])}" if data.get("changed") else "",
        rule=", as an operator's rule for this code says" if data.get("overruled") else "",
        chosen="chosen as the picture" if data.get("chosen", True) else "no longer the chosen picture",
        scene=data.get("scene") or "a chapter",
        newer=data.get("generation") or data.get("retry") or "a new generation",
    )
    return text.replace("of Attempt", "of attempt").replace("of An attempt", "of an attempt")


def reason(code: object, message: object) -> str:
    """``code: message``, or what there is of them."""
    return ": ".join(part for part in (_plain(code), _plain(message)) if part) or "no reason was noted"


def choice_text(submission: Submission) -> str:
    """Why this Account was chosen, as the end of a sentence; empty where nothing was noted."""
    choice: dict[str, Any] = submission.choice or {}
    if not choice:
        return ""
    reasons = []
    if choice.get("pinned"):
        reasons.append("pinned by the request")
    else:
        if choice.get("own"):
            reasons.append("the user's own account")
        among = choice.get("among")
        if among:
            reasons.append("the only one with a free slot" if among == 1 else f"the best of {among} with a free slot")
    if "held" in choice:
        reasons.append(f"{choice['held']} of {choice.get('limit', submission.limit_seen)} were in use")
    return f" ({', '.join(reasons)})" if reasons else ""


def end_of_attempt(submission: Submission) -> str:
    """How an attempt ended."""
    number = f"Attempt {submission.number}"
    match submission.state:
        case "succeeded":
            text = f"{number} succeeded."
        case "cancelled":
            text = f"{number} was cancelled."
        case _:
            text = f"{number} failed: {reason(submission.error_code, submission.error_message)}."
    return f"{text} What it cost is not known." if submission.cost_at_risk else text


def provider_title(slug: str) -> str:
    """The provider's name for people; its slug where it is no longer known."""
    try:
        return registry.get(slug).title
    except UnknownProvider:
        return slug


def _plain(text: object) -> str:
    return str(text or "").strip().rstrip(".")
