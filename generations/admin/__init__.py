"""The console: one module per noun, read-only where history must stay, actions only where they are legal."""

from generations.admin import account, code_override, generation, history, incident, provider_setting, schedule

__all__ = ["account", "code_override", "generation", "history", "incident", "provider_setting", "schedule"]
