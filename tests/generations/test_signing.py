"""A signed link to content: it"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from generations.conf import limits
from generations.models import Asset
from generations.signing import BadSignature, SignatureExpired, SignedContent, content_url, unsign

NOW = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)


def token_of(url: str) -> str:
    """The last part of the path."""
    prefix, _, token = url.rpartition("/")
    assert prefix == "/content"
    return token


def test_names_the_asset_or_its_thumbnail() -> None:
    asset = Asset()
    assert unsign(token_of(content_url(asset))) == SignedContent(asset.pk, thumbnail=False)
    assert unsign(token_of(content_url(asset, thumbnail=True))) == SignedContent(asset.pk, thumbnail=True)


def test_stays_the_same_for_a_while_so_that_browsers_keep_what_they_have() -> None:
    asset = Asset()
    with time_machine.travel(NOW, tick=False):
        first = content_url(asset)
    with time_machine.travel(NOW + timedelta(seconds=limits().signed_url_seconds / 2 - 5), tick=False):
        assert content_url(asset) == first
    with time_machine.travel(NOW + timedelta(seconds=limits().signed_url_seconds), tick=False):
        assert content_url(asset) != first


def test_answers_for_half_its_time_at_least_and_never_longer_than_all_of_it() -> None:
    with time_machine.travel(NOW + timedelta(minutes=29), tick=False):
        token = token_of(content_url(Asset()))
    end = NOW + timedelta(minutes=29)
    with time_machine.travel(end + timedelta(seconds=limits().signed_url_seconds / 2), tick=False):
        unsign(token)
    late = time_machine.travel(end + timedelta(seconds=limits().signed_url_seconds + 1), tick=False)
    with late, pytest.raises(SignatureExpired):
        unsign(token)


@pytest.mark.parametrize("change", ["", "x", "0" * 33 + ":1abcde:forged"])
def test_is_refused_when_we_did_not_make_it(change: str) -> None:
    with pytest.raises(BadSignature):
        unsign(change)
    with pytest.raises(BadSignature):
        unsign(token_of(content_url(Asset())).replace("o:", "t:", 1) + change)
