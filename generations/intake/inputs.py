"""The files that a request is made from: Assets of the user, or URLs that are fetched once, stored and hashed."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import UUID

import structlog

from generations import media, storage
from generations.conf import limits
from generations.intake.errors import Conflict, Invalid, NotFound, Unavailable
from generations.models import Asset
from providers import fetch
from providers.errors import InvalidParams, ProviderError
from providers.params import Params

CHUNK = 1024 * 1024
RETRY_AFTER_SECONDS = 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InputRef:
    """An input as it was asked for: exactly one of ``asset_id`` and ``url``."""

    role: str
    asset_id: UUID | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class ResolvedInput:
    """An input that is ours."""

    role: str
    asset: Asset


def resolve(user_id: int, refs: Sequence[InputRef], params: Params) -> tuple[ResolvedInput, ...]:
    """The Assets that a request is made from, checked against what its operation takes.

    Raises:
        Invalid: a role too many or too few, the wrong kind of media, an unusable URL.
        NotFound: no such Asset of this user.
    """
    _check_roles([ref.role for ref in refs], params)  # before anything is fetched
    resolved = found(user_id, refs)
    check(resolved, params)
    return resolved


def found(user_id: int, refs: Sequence[InputRef]) -> tuple[ResolvedInput, ...]:
    """The Assets that are named; those given by URL are fetched.

    Raises:
        Invalid: an unusable URL.
        NotFound: no such Asset of this user.
    """
    ids = {ref.asset_id for ref in refs if ref.asset_id is not None}
    assets = {asset.pk: asset for asset in Asset.objects.of_user(user_id).filter(pk__in=ids)} if ids else {}
    if missing := sorted(ids - assets.keys()):
        raise NotFound("unknown_asset", f"There is no asset {missing[0]} of yours.", field="inputs")
    return tuple(
        ResolvedInput(ref.role, assets[ref.asset_id] if ref.asset_id is not None else fetched(user_id, ref.url or ""))
        for ref in refs
    )


def check(given: Sequence[ResolvedInput], params: Params, *, where: str = "") -> None:
    """Whether an operation takes these inputs. ``where``: what a refusal begins with.

    Raises:
        Invalid: a role too many or too few, the wrong kind of media, or a file that has expired.
    """
    _check_roles([one.role for one in given], params, where)
    for one in given:
        if one.asset.expired_at:
            detail = f"{where}the file of asset {one.asset.pk} has expired and was removed."
            raise Invalid("asset_expired", f"{detail[:1].upper()}{detail[1:]}", field="inputs")
        allowed = params.accepted_media.get(one.role, ("image",))
        if one.asset.kind not in allowed:
            raise Invalid(
                "invalid_input",
                f"{where}{one.role} must be {' or '.join(allowed)}; this is {one.asset.mime_type}.",
                field="inputs",
            )


def _check_roles(roles: Sequence[str], params: Params, where: str = "") -> None:
    try:
        params.check_inputs(Counter(roles))
    except InvalidParams as error:
        raise Invalid("invalid_input", f"{where}{error.detail}", field="inputs") from error


def store_upload(user_id: int, file: BinaryIO, *, name: str, only: Literal["image"] | None = None) -> Asset:
    """Keep an uploaded file as an input Asset; the same bytes of the same user are the same Asset.

    Raises:
        Invalid: too large, or no picture or video that can be used; with ``only``, or one of another kind.
        Conflict: ``try_again``: it could not be checked now.
        Unavailable: ``storage_unavailable``: our storage is full or down.
    """
    with storing(), tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        path = Path(folder) / "input"
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as copy:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > limits().max_input_bytes:
                    raise Invalid("too_large", f"At most {limits().max_input_bytes // 1024**2} MB.", field="file")
                digest.update(chunk)
                copy.write(chunk)
        return _keep(user_id, path, digest.hexdigest(), size, name, field="file", only=only)


def fetched(user_id: int, url: str) -> Asset:
    """Fetch an input from a URL through the guarded fetcher and keep it.

    Raises:
        Invalid: ``unsafe_url`` for an address that must not be reached, ``invalid_input`` for what was found there.
        Conflict, Unavailable: as ``store_upload``.
    """
    with storing(), tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        path = Path(folder) / "input"
        try:
            fetch.check_url(url)
            with path.open("wb") as file:
                got = fetch.download(url, file, max_bytes=limits().max_input_bytes, total_timeout=60)
        except fetch.UnsafeURL as error:
            raise Invalid("unsafe_url", str(error), field="inputs") from error
        except ProviderError as error:
            raise Invalid("invalid_input", f"The input could not be fetched: {error.detail}", field="inputs") from error
        return _keep(user_id, path, got.sha256, got.size, "", field="inputs")


@contextmanager
def storing() -> Iterator[None]:
    """What is done with files here fails for our own disk or storage only, and is worth another try later.

    Raises:
        Unavailable: ``storage_unavailable``.
    """
    try:
        yield
    except OSError as error:
        log.exception("input_not_stored", error=type(error).__name__)
        raise Unavailable(
            "storage_unavailable",
            "The file cannot be stored at this moment: our storage is full or does not answer. Nothing was kept. Send "
            "it again later; the operators are told.",
            retry_after=RETRY_AFTER_SECONDS,
        ) from error


def _keep(user_id: int, path: Path, sha256: str, size: int, name: str, *, field: str, only: str | None = None) -> Asset:
    mine = Asset.objects.of_user(user_id).kept().exclude(role=Asset.Role.EXPORT)  # those come and go
    known = mine.filter(sha256=sha256).order_by("-id").first()
    if known is not None:
        _check_kind(known.mime_type, only, field)
        return known
    try:
        info = media.inspect(path)
        _check_kind(info.mime_type, only, field)
        picture = media.thumbnail(path, info)
    except media.UnusableMedia as error:
        raise Invalid("invalid_input", str(error), field=field) from error
    except media.ToolFailed as error:
        raise Conflict("try_again", "The file could not be checked at this moment. Send it again.") from error
    key = storage.keep(path, sha256, info.extension)
    thumbnail_key = storage.keep_bytes(picture, hashlib.sha256(picture).hexdigest(), "webp")
    return Asset.objects.create(
        user_id=user_id,
        role=Asset.Role.INPUT,
        key=key,
        thumbnail_key=thumbnail_key,
        sha256=sha256,
        size=size,
        mime_type=info.mime_type,
        width=info.width,
        height=info.height,
        duration=info.duration,
        name=name[:200],
    )


def _check_kind(mime_type: str, only: str | None, field: str) -> None:
    if only is not None and mime_type.partition("/")[0] != only:
        raise Invalid("invalid_input", f"It must be an {only}; this is {mime_type}.", field=field)
