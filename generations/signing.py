"""Short-lived links to an Asset's bytes: whoever has the link may read, so that ``<img>`` and ``curl`` just work.

Links are made with the start of the current half-period as their time: the same Asset has the same link for a
while, so browsers keep what they have and a page that refreshes itself does not load its pictures again. A link
therefore answers for at least half of ``signed_url_seconds`` and never longer than all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.core.signing import BadSignature, SignatureExpired, TimestampSigner, b62_encode
from django.utils import timezone

from generations.conf import limits
from generations.models import Asset

__all__ = ["BadSignature", "SignatureExpired", "SignedContent", "content_url", "unsign"]


@dataclass(frozen=True, slots=True)
class SignedContent:
    """What a link names: an Asset, or its thumbnail."""

    asset_id: UUID
    thumbnail: bool


class _PeriodSigner(TimestampSigner):
    """Signs with the beginning of the current half-period instead of the current second."""

    def timestamp(self) -> str:
        period = max(1, int(limits().signed_url_seconds / 2))
        now = int(timezone.now().timestamp())
        return b62_encode(now - now % period)


_signer = _PeriodSigner(salt="darkroom.content")


def content_url(asset: Asset, *, thumbnail: bool = False, download: bool = False) -> str:
    """A path below ``/content/`` that answers the Asset's bytes (or its thumbnail's) without a login.

    ``download``: a browser saves them instead of showing them.
    """
    what = f"{asset.pk.hex}{'t' if thumbnail else 'o'}"
    return f"/content/{_signer.sign(what)}{'?download=1' if download else ''}"


def unsign(token: str) -> SignedContent:
    """What ``token``, the last part of a ``content_url``, names.

    Raises:
        SignatureExpired: it was made too long ago (a BadSignature too).
        BadSignature: we did not make it.
    """
    value = _signer.unsign(token, max_age=timedelta(seconds=limits().signed_url_seconds))
    try:
        return SignedContent(UUID(hex=value[:-1]), thumbnail=value[-1:] == "t")
    except ValueError as error:
        raise BadSignature("The signed value names no asset.") from error
