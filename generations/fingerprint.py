"""The fingerprint: what makes two requests the same request. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def fingerprint(
    *,
    provider_id: str,
    operation_type: str,
    params: Mapping[str, Any],
    inputs: Sequence[tuple[str, str]],
    account: str | None,
    context: Any,
    prompt_version: str | None = None,
    variation: int | None = None,
) -> str:
    """sha-256 (64 hex digits) over the canonical request.

    ``params`` is the canonical dump (defaults filled in, text in NFC); ``inputs`` are (role, sha-256 of the
    bytes) in their order; ``account`` is the pinned account's id; ``context`` is any JSON: requests that differ
    in it are different. ``prompt_version`` is the id of the version that the prompt is, ``variation`` a batch
    item's number; a request without them has the fingerprint that it had before there were any. Key order never
    matters, and ``1`` and ``1.0`` are one number. The user is no part of it: the database's unique index is on
    (user, fingerprint).
    """
    canonical = {
        "provider": provider_id,
        "operation": operation_type,
        "params": _plain_numbers(params),
        "inputs": [list(pair) for pair in inputs],
        "account": account,
        "context": _plain_numbers(context),
        **({} if prompt_version is None else {"prompt_version": prompt_version}),
        **({} if variation is None else {"variation": variation}),
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain_numbers(value: Any) -> Any:
    """``value`` with whole floats as integers, so that 1 and 1.0 are written alike."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    return value
