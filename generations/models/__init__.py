"""One file per noun."""

from generations.models.asset import Asset, GenerationInput
from generations.models.batch import Batch, BatchItem
from generations.models.callback_nonce import CallbackNonce
from generations.models.chapter import Chapter, ChapterMember, Scene
from generations.models.code_override import CodeOverride
from generations.models.dead_letter import DeadLetter
from generations.models.event import Event
from generations.models.export import Export
from generations.models.generation import Generation
from generations.models.heartbeat import Heartbeat
from generations.models.held_back import HeldBack
from generations.models.idempotency_key import IdempotencyKey
from generations.models.incident import Incident
from generations.models.library import LibraryFavourite, LibraryItem
from generations.models.prompt import Prompt, PromptVersion
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
    "Batch",
    "BatchItem",
    "CallbackNonce",
    "Chapter",
    "ChapterMember",
    "CodeOverride",
    "DeadLetter",
    "Event",
    "Export",
    "Generation",
    "GenerationInput",
    "Heartbeat",
    "HeldBack",
    "IdempotencyKey",
    "Incident",
    "LibraryFavourite",
    "LibraryItem",
    "Prompt",
    "PromptVersion",
    "ProviderSetting",
    "Scene",
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
