"""What a provider, the network and our storage may say to a worker, by a short word that a failing example prints."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from generations.execution.results import Collected, StorageFailed, StoredOutput
from generations.models import Submission
from providers.base import Output, PollResult, SubmitResult
from providers.errors import (
    AssetUnusable,
    AuthFailed,
    ConcurrencyLimit,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
    JobFailed,
    NotDelivered,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RateLimited,
    Refused,
)

REJECTIONS: dict[str, Callable[[], ProviderError]] = {
    "invalid": InvalidParams,
    "moderated": ContentModerated,
    "auth": AuthFailed,
    "permission": PermissionDenied,
    "credits": InsufficientCredits,
    "busy": lambda: RateLimited(retry_after=30),
    "full": ConcurrencyLimit,
    "not delivered": NotDelivered,
    "refused": Refused,
}
"""The replies to a billable call that mean: no job was made."""
REPLIES = ("accepted", "accepted", "finished", "lost", "lost", "broken", "another's job", *REJECTIONS)
ENDED = {"failed", "moderated"}
"""The answers to a poll that mean: the job ended without a result."""
ANSWERS = (
    "done", "done", "running", "running", "missing", "empty", "unreadable", "busy", "auth", "credits", "broken", *ENDED,
)  # fmt: skip
CATCHES = ("stored", "stored", "partly", "unusable", "storage", "network", "broken")


def output(submission: Submission) -> Output:
    """Where the provider says that the result is."""
    kind = "image" if submission.generation.makes_image else "video"
    return Output(f"https://media.example/{submission.pk}", kind)  # type: ignore[arg-type]


def reply(said: str, submission: Submission, job_id: str) -> SubmitResult | Exception:
    """What comes back from the one billable call of an attempt."""
    if said in REJECTIONS:
        return REJECTIONS[said]()
    match said:
        case "accepted" | "another's job":
            return SubmitResult(job_id, {"attempt": submission.number})
        case "finished":
            return SubmitResult(job_id, outputs=(output(submission),))
        case "lost":
            return OutcomeUnknown()
    return RuntimeError("a fault of ours")


def answer(said: str, submission: Submission) -> PollResult | Exception:
    """What one poll of an accepted attempt brings."""
    match said:
        case "done":
            return PollResult("succeeded", (output(submission),), cost=Decimal(2), raw_status="1")
        case "running":
            return PollResult("running", progress=40, raw_status="5")
        case "missing":
            return PollResult("missing")
        case "empty":
            return PollResult("succeeded")
        case "failed":
            return PollResult("failed", error=JobFailed(), raw_status="8")
        case "moderated":
            return PollResult("failed", error=ContentModerated(stage="output"), raw_status="7")
    errors: dict[str, Exception] = {
        "unreadable": OutcomeUnknown(),
        "busy": RateLimited(retry_after=60),
        "auth": AuthFailed(),
        "credits": InsufficientCredits(),
    }
    return errors.get(said, RuntimeError("a fault of ours"))


def catch(what: str, picture: StoredOutput) -> Collected | Exception:
    """What came of fetching and storing a result."""
    match what:
        case "stored":
            return Collected((picture,), None)
        case "partly":
            return Collected((picture,), AssetUnusable())
        case "unusable":
            return Collected((), AssetUnusable())
        case "storage":
            return Collected((), StorageFailed())
        case "network":
            return Collected((), NotDelivered())
    return RuntimeError("a fault of ours")
