"""The states of a Generation and of a Submission, and the named sets of them used everywhere.

A transition is one guarded UPDATE (``generations.execution``); here is only which exist.
"""

from __future__ import annotations

from django.db.models import TextChoices


class Status(TextChoices):
    """Where a Generation stands.

    * ``pending``: accepted, waits for a slot (or for a time); moved on by dispatch.
    * ``processing``: a Submission of it is open; moved on by whoever owns that.
    * ``completed``, ``failed``, ``cancelled``: terminal; nobody moves it, a retry is a new Generation.
    """

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class State(TextChoices):
    """Where a Submission (one attempt) stands.

    * ``reserved``: account and slot taken, nothing billable sent; its dispatcher moves it on.
    * ``sending``: committed before the billable call leaves; its dispatcher moves it on.
    * ``unknown``: the call may have arrived; a callback or the limit moves it on.
    * ``accepted``: the provider's job id is stored; the poller moves it on.
    * ``collecting``: the provider is done and the slot free, the result not ours yet; the collector moves it on.
    * ``succeeded``, ``failed``, ``cancelled``: terminal.
    """

    RESERVED = "reserved"
    SENDING = "sending"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    COLLECTING = "collecting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Operation(TextChoices):
    """``operation_type``: what is made from what."""

    TEXT_TO_IMAGE = "text_to_image", "Text to image"
    IMAGE_TO_IMAGE = "image_to_image", "Image to image"
    TEXT_TO_VIDEO = "text_to_video", "Text to video"
    IMAGE_TO_VIDEO = "image_to_video", "Image to video"
    VIDEO_EXTEND = "video_extend", "Extend a video"
    VIDEO_TRANSITION = "video_transition", "Transition between pictures"
    FUSION = "fusion", "Fusion of references"


MAKES_IMAGE = frozenset({Operation.TEXT_TO_IMAGE, Operation.IMAGE_TO_IMAGE})
"""Operations whose result is a picture; the others make a video."""

LIVE = frozenset({Status.PENDING, Status.PROCESSING})
ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

HOLDS_SLOT = frozenset({State.RESERVED, State.SENDING, State.UNKNOWN, State.ACCEPTED})
"""The open Submission *is* the account's slot."""
BILLABLE = frozenset({State.SENDING, State.UNKNOWN, State.ACCEPTED, State.COLLECTING})
"""The provider may have been (or be) paid for it."""
OPEN = HOLDS_SLOT | BILLABLE
TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.SENDING, State.FAILED, State.CANCELLED}),
    State.SENDING: frozenset({State.ACCEPTED, State.COLLECTING, State.UNKNOWN, State.FAILED, State.CANCELLED}),
    State.UNKNOWN: frozenset({State.ACCEPTED, State.COLLECTING, State.FAILED, State.CANCELLED}),
    State.ACCEPTED: frozenset({State.COLLECTING, State.FAILED, State.CANCELLED}),
    State.COLLECTING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED}),
}
"""What may follow what; the terminal ones are followed by nothing (the database's trigger sees to it)."""
