"""What a new instance needs: somebody who may log in, a token for the API, accounts that work without a key."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed

from accounts.models import Account
from config.embedded.home import read_json, write_private
from providers import registry

ADMIN = "admin"
SANDBOX_PROVIDERS = ("pixverse", "modelslab")
SANDBOX_LABEL = "Sandbox"


@dataclass(frozen=True)
class Logins:
    """The first person's login, as kept in ``var/logins.json`` (mode 0600). Empty password: changed since."""

    username: str
    password: str
    token: str
    flower_password: str

    @property
    def flower_login(self) -> str:
        """``user:password`` for Flower's basic auth."""
        return f"{self.username}:{self.flower_password}"


def logins(folder: Path) -> Logins:
    """The admin and a token that work, made the first time and kept.

    A password that was changed in the admin is not touched, and no longer known here: it comes back empty. A
    token that was revoked is replaced.
    """
    kept = read_json(folder / "logins.json")
    password = kept.get("password") or ""
    user = get_user_model().objects.filter(username=ADMIN).first()
    if user is None:
        password = secrets.token_urlsafe(12)
        user = get_user_model().objects.create_superuser(ADMIN, "", password)
    elif not (password and user.check_password(password)):
        password = ""
    token = kept.get("token") or ""
    if not _works(token, user.pk):
        token = AuthToken.objects.create(user, expiry=None)[1]
    found = Logins(ADMIN, password, token, kept.get("flower_password") or secrets.token_urlsafe(12))
    if asdict(found) != kept:
        write_private(folder / "logins.json", json.dumps(asdict(found)))
    return found


def _works(token: str, user_id: int) -> bool:
    """Whether the API would take this token for this user."""
    if not token:
        return False
    try:
        user, _ = TokenAuthentication().authenticate_credentials(token.encode())
    except AuthenticationFailed:
        return False
    return bool(user.pk == user_id)


def sandbox_base_url(provider_id: str, sandbox_url: str) -> str:
    """Where the sandbox speaks a provider's protocol: the provider's own path below a prefix of its name."""
    return f"{sandbox_url}/{provider_id}{urlsplit(registry.get(provider_id).default_base_url).path}".rstrip("/")


def sandbox_accounts(sandbox_url: str) -> None:
    """Accounts at Pixverse and ModelsLab that are played by the sandbox; their address follows its port.

    What an operator has changed in them (limit, switched off) stays.
    """
    for provider_id in SANDBOX_PROVIDERS:
        base_url = sandbox_base_url(provider_id, sandbox_url)
        account = Account.objects.filter(provider_id=provider_id, label=SANDBOX_LABEL).first()
        if account is None:
            account = Account(
                provider_id=provider_id,
                label=SANDBOX_LABEL,
                base_url=base_url,
                allow_private_base_url=True,
                limit=3,
            )
            account.set_credentials({"api_key": f"sandbox-{provider_id}"})
            account.save()
        elif account.base_url != base_url:
            account.base_url = base_url
            account.save(update_fields=["base_url"])
