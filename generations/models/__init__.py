"""One file per noun."""

from generations.models.asset import Asset, GenerationInput
from generations.models.event import Event
from generations.models.generation import Generation
from generations.models.heartbeat import Heartbeat
from generations.models.idempotency_key import IdempotencyKey
from generations.models.incident import Incident
from generations.models.submission import AccountExclusion, Submission

__all__ = [
    "AccountExclusion",
    "Asset",
    "Event",
    "Generation",
    "GenerationInput",
    "Heartbeat",
    "IdempotencyKey",
    "Incident",
    "Submission",
]
