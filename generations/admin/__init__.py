"""The console: one module per noun, read-only where history must stay, actions only where they are legal."""

from generations.admin import (
    account,
    balances,
    batch,
    code_override,
    dead_letter,
    generation,
    history,
    incident,
    library,
    prompt,
    provider_setting,
    schedule,
    switch,
    unknown_outcome,
    user_cap,
    webhook,
)

__all__ = [
    "account",
    "balances",
    "batch",
    "code_override",
    "dead_letter",
    "generation",
    "history",
    "incident",
    "library",
    "prompt",
    "provider_setting",
    "schedule",
    "switch",
    "unknown_outcome",
    "user_cap",
    "webhook",
]
