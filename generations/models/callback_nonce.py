"""CallbackNonce: a signed callback is taken once."""

from __future__ import annotations

from django.db import models

from accounts.models import Account


class CallbackNonce(models.Model):
    """The nonce of a signed callback; the same one again is a replay, until it is too old to be believed anyway."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, db_index=False, related_name="+")
    nonce = models.CharField(max_length=120)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "nonce"], name="callback_nonce_once")]
        # cleanup: which are forgotten
        indexes = [models.Index(fields=["expires_at"], name="callback_nonce_expires")]

    def __str__(self) -> str:
        return self.nonce
