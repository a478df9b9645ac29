"""One file per noun."""

from generations.models.asset import Asset, GenerationInput
from generations.models.callback_nonce import CallbackNonce
from generations.models.code_override import CodeOverride
from generations.models.dead_letter import DeadLetter
from generations.models.event import Event
from generations.models.generation import Generation
from generations.models.heartbeat import Heartbeat
from generations.models.held_back import HeldBack
from generations.models.idempotency_key import IdempotencyKey
from generations.models.incident import Incident
from generations.models.provider_setting import ProviderSetting
from generations.models.submission import AccountExclusion, Submission
from generations.models.switch import Switch, SwitchChange
from generations.models.unknown_outcome import UnknownOutcome
from generations.models.webhook import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSecret,
)

__all__ = [
    "AccountExclusion",
    "Asset",
    "CallbackNonce",
    "CodeOverride",
    "DeadLetter",
    "Event",
    "Generation",
    "GenerationInput",
    "Heartbeat",
    "HeldBack",
    "IdempotencyKey",
    "Incident",
    "ProviderSetting",
    "Submission",
    "Switch",
    "SwitchChange",
    "UnknownOutcome",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookSecret",
]
