"""Rows for tests: valid by every constraint, whatever state is asked for.

A made row is one that the house could have made: an ended Generation has its end, an accepted Submission its job
id, a slot is the lowest free one, a wallet's ledger adds up, and an Asset's bytes are really in the storage.
Every factory is called with ``.create(...)``, which is typed (or just called).
"""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import factory
from django.contrib.auth.models import User
from django.db.models import Max, Model
from django.utils import timezone
from factory.django import DjangoModelFactory
from PIL import Image

from accounts import credits
from accounts.credits import Movement
from accounts.models import Account, LedgerEntry, Price, UserCap, Wallet
from generations.fingerprint import fingerprint
from generations.lifecycle import ENDED, HOLDS_SLOT, LIVE, TERMINAL, Operation, State, Status
from generations.models import (
    Asset,
    Batch,
    BatchItem,
    Chapter,
    Event,
    Export,
    Generation,
    GenerationInput,
    LibraryItem,
    Prompt,
    PromptVersion,
    Scene,
    Submission,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSecret,
)
from generations.models.webhook import FILTERABLE
from generations.storage import keep_bytes

M = TypeVar("M", bound=Model)

PASSWORD = "correct horse battery staple"
SENT = frozenset(State) - {State.RESERVED}


def picture(*, size: tuple[int, int] = (64, 48), of: bytes = b"", format: str = "PNG") -> bytes:  # noqa: A002
    """A real picture; with ``of`` always the same one, else one that no other call makes."""
    seed = hashlib.sha256(of or uuid4().bytes).digest()
    image = Image.new("RGB", size, (seed[0], seed[1], seed[2]))
    for x in range(8):
        image.putpixel((x, 0), (seed[3 + x], seed[11 + x], seed[19 + x]))
    target = io.BytesIO()
    image.save(target, format)
    return target.getvalue()


def stored(content: bytes, extension: str) -> str:
    """Put bytes into the storage as the house does; the key."""
    return keep_bytes(content, hashlib.sha256(content).hexdigest(), extension)


class UserFactory(DjangoModelFactory[User]):
    """A person. ``is_staff=True, is_superuser=True`` makes an admin; ``password=PASSWORD`` one who can log in."""

    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"user{n}-{uuid4().hex[:6]}")
    email = factory.LazyAttribute(lambda made: f"{made.username}@studio.example")

    @classmethod
    def _create(cls, model_class: type[User], **kwargs: Any) -> User:
        password = kwargs.pop("password", None)
        user = model_class(**kwargs)
        if password is None:
            user.set_unusable_password()
        else:
            user.set_password(password)  # slow by design, hence only where it is asked for
        user.save()
        return user


class AccountFactory(DjangoModelFactory[Account]):
    """A shared login with three slots. ``credentials={...}`` is stored encrypted."""

    class Meta:
        model = Account

    provider_id = "pixverse"
    label = factory.Sequence(lambda n: f"account {n}-{uuid4().hex[:6]}")
    base_url = "http://127.0.0.1:9/pixverse"
    allow_private_base_url = True
    limit = 3
    credentials = factory.LazyFunction(lambda: {"api_key": f"key-{uuid4().hex}"})

    @classmethod
    def _create(cls, model_class: type[Account], **kwargs: Any) -> Account:
        credentials = kwargs.pop("credentials")
        account = model_class(**kwargs)
        account.set_credentials(credentials)
        account.save()
        return account


class WalletFactory(DjangoModelFactory[Wallet]):
    """A wallet whose ledger adds up: what is available was granted."""

    class Meta:
        model = Wallet

    user = factory.SubFactory(UserFactory)
    available = 100

    @classmethod
    def _create(cls, model_class: type[Wallet], *args: Any, **kwargs: Any) -> Wallet:
        wallet: Wallet = super()._create(model_class, *args, **kwargs)
        if wallet.available or wallet.held:
            LedgerEntry.objects.create(
                wallet=wallet,
                kind=LedgerEntry.Kind.GRANT,
                available_change=wallet.available,
                held_change=wallet.held,
                reason="for a test",
                actor="test",
            )
        return wallet


class UserCapFactory(DjangoModelFactory[UserCap]):
    """Caps of a user; nothing is capped until it is said."""

    class Meta:
        model = UserCap

    user = factory.SubFactory(UserFactory)


class PriceFactory(DjangoModelFactory[Price]):
    """What a picture from text costs, whatever the model."""

    class Meta:
        model = Price

    provider_id = "modelslab"
    operation_type = Operation.TEXT_TO_IMAGE
    model = ""
    credits = 10


class GenerationFactory(DjangoModelFactory[Generation]):
    """One in any ``status``. It is its request's answer (``active_fingerprint``) while it is live or completed.

    ``with_events=True`` writes its first and, when it has ended, its last Event.
    """

    class Meta:
        model = Generation

    class Params:
        prompt = factory.Sequence(lambda n: f"a lighthouse in the fog, number {n}")

    user = factory.SubFactory(UserFactory)
    provider_id = "pixverse"
    operation_type = Operation.TEXT_TO_VIDEO
    status = Status.PENDING
    raw_params = factory.LazyAttribute(lambda made: {"prompt": made.prompt})
    params = factory.LazyAttribute(lambda made: dict(made.raw_params))
    queue_until = factory.LazyFunction(lambda: timezone.now() + timedelta(days=7))
    fingerprint = factory.LazyAttribute(
        lambda made: fingerprint(
            provider_id=made.provider_id,
            operation_type=made.operation_type,
            params=made.params,
            inputs=[],
            account=None,
            context=None,
        )
    )
    active_fingerprint = factory.LazyAttribute(
        lambda made: made.fingerprint if made.status in LIVE or made.status == Status.COMPLETED else None
    )
    started_at = factory.LazyAttribute(
        lambda made: timezone.now() if made.status in {Status.PROCESSING, Status.COMPLETED} else None
    )
    completed_at = factory.LazyAttribute(lambda made: timezone.now() if made.status in ENDED else None)
    error_code = factory.LazyAttribute(lambda made: "provider_failed" if made.status == Status.FAILED else "")
    error_message = factory.LazyAttribute(
        lambda made: "The provider ended its job without a result." if made.status == Status.FAILED else ""
    )

    @classmethod
    def _create(cls, model_class: type[Generation], *args: Any, **kwargs: Any) -> Generation:
        with_events = kwargs.pop("with_events", False)
        generation: Generation = super()._create(model_class, *args, **kwargs)
        if with_events:
            actor = f"user:{generation.user_id}"
            Event.objects.create(generation=generation, kind=Event.Kind.ACCEPTED, actor=actor)
            if generation.status in ENDED:
                Event.objects.create(generation=generation, kind=generation.status, actor="system")
        return generation


class SubmissionFactory(DjangoModelFactory[Submission]):
    """An attempt in any ``state``, of a Generation whose status goes with it, on the lowest free slot.

    ``abandoned=True`` makes it one whose Generation has ended without it.
    """

    class Meta:
        model = Submission

    class Params:
        abandoned = False

    state = State.ACCEPTED
    account = factory.SubFactory(AccountFactory)
    generation = factory.SubFactory(
        GenerationFactory,
        provider_id=factory.SelfAttribute("..account.provider_id"),
        status=factory.LazyAttribute(
            lambda made: _status_beside(made.factory_parent.state, abandoned=made.factory_parent.abandoned)
        ),
    )
    number = factory.LazyAttribute(
        lambda made: (made.generation.submissions.aggregate(last=Max("number"))["last"] or 0) + 1
    )
    limit_seen = factory.LazyAttribute(lambda made: made.account.limit)
    slot = factory.LazyAttribute(lambda made: _free_slot(made.account) if made.state in HOLDS_SLOT else 1)
    lease_until = factory.LazyAttribute(
        lambda made: (
            timezone.now() + timedelta(seconds=45)
            if made.state in {State.RESERVED, State.SENDING, State.COLLECTING}
            else None
        )
    )
    sent_at = factory.LazyAttribute(lambda made: timezone.now() if made.state in SENT else None)
    limit_at = factory.LazyAttribute(lambda made: timezone.now() + timedelta(hours=1) if made.state in SENT else None)
    accepted_at = factory.LazyAttribute(lambda made: timezone.now() if _has_job(made.state) else None)
    provider_job_id = factory.LazyAttribute(lambda made: str(uuid4().int)[:18] if _has_job(made.state) else None)
    # An unknown one has been looked for once, in vain.
    misses = factory.LazyAttribute(lambda made: int(made.state == State.UNKNOWN))
    next_poll_at = factory.LazyAttribute(
        lambda made: (
            timezone.now() + timedelta(seconds=60 if made.state == State.UNKNOWN else 5)
            if made.state in {State.ACCEPTED, State.UNKNOWN}
            else None
        )
    )
    finished_at = factory.LazyAttribute(
        lambda made: timezone.now() if made.state in {State.COLLECTING, State.SUCCEEDED} else None
    )
    collect_by = factory.LazyAttribute(
        lambda made: timezone.now() + timedelta(days=1) if made.state == State.COLLECTING else None
    )
    ended_at = factory.LazyAttribute(lambda made: timezone.now() if made.state in TERMINAL else None)
    abandoned_at = factory.LazyAttribute(lambda made: timezone.now() if made.abandoned else None)
    error_code = factory.LazyAttribute(lambda made: "provider_failed" if made.state == State.FAILED else "")


class AssetFactory(DjangoModelFactory[Asset]):
    """A stored picture: an output of a succeeded Submission, or with ``role="input"`` an upload of ``user``.

    ``content`` (bytes), ``mime_type`` and ``extension`` make it something else; every picture differs.
    """

    class Meta:
        model = Asset

    role = Asset.Role.OUTPUT
    submission = factory.Maybe(
        factory.LazyAttribute(lambda made: made.role == Asset.Role.OUTPUT),
        yes_declaration=factory.SubFactory(SubmissionFactory, state=State.SUCCEEDED),
        no_declaration=None,
    )
    user = factory.Maybe(
        "submission",
        yes_declaration=factory.SelfAttribute("submission.generation.user"),
        no_declaration=factory.SubFactory(UserFactory),
    )
    content = factory.LazyFunction(picture)
    mime_type = "image/png"
    extension = "png"
    width = 64
    height = 48

    @classmethod
    def _create(cls, model_class: type[Asset], *args: Any, **kwargs: Any) -> Asset:
        content: bytes = kwargs.pop("content")
        extension: str = kwargs.pop("extension")
        kwargs.setdefault("sha256", hashlib.sha256(content).hexdigest())
        kwargs.setdefault("size", len(content))
        kwargs.setdefault("key", stored(content, extension))
        kwargs.setdefault("thumbnail_key", stored(picture(size=(16, 12), of=content[-8:]), "jpg"))
        asset: Asset = super()._create(model_class, *args, **kwargs)
        return asset


class GenerationInputFactory(DjangoModelFactory[GenerationInput]):
    """An uploaded picture in the role of ``image``."""

    class Meta:
        model = GenerationInput

    generation = factory.SubFactory(GenerationFactory)
    asset = factory.SubFactory(AssetFactory, role="input", user=factory.SelfAttribute("..generation.user"))
    role = "image"
    index = factory.LazyAttribute(lambda made: made.generation.inputs.count())


class WebhookSecretFactory(DjangoModelFactory[WebhookSecret]):
    """A secret; ``made.in_force(timezone.now())`` tells it."""

    class Meta:
        model = WebhookSecret

    user = factory.SubFactory(UserFactory)

    @classmethod
    def _create(cls, model_class: type[WebhookSecret], *args: Any, **kwargs: Any) -> WebhookSecret:
        secret = model_class(**kwargs)
        secret.make()
        secret.save()
        return secret


class WebhookEndpointFactory(DjangoModelFactory[WebhookEndpoint]):
    """A user's endpoint that is told everything; with ``generation`` a request's ``webhook_url``."""

    class Meta:
        model = WebhookEndpoint

    user = factory.SubFactory(UserFactory)
    secret = factory.SubFactory(WebhookSecretFactory, user=factory.SelfAttribute("..user"))
    url = factory.Sequence(lambda n: f"https://hooks.example.com/{n}")
    events = list(FILTERABLE)
    disabled_reason = factory.LazyAttribute(lambda made: "owner" if getattr(made, "disabled_at", None) else "")


class WebhookDeliveryFactory(DjangoModelFactory[WebhookDelivery]):
    """What an endpoint is told of a completed Generation of its user, in any ``state``; a pending one is due."""

    class Meta:
        model = WebhookDelivery

    endpoint = factory.SubFactory(WebhookEndpointFactory)
    user = factory.SelfAttribute("endpoint.user")
    generation = factory.SubFactory(GenerationFactory, status=Status.COMPLETED, user=factory.SelfAttribute("..user"))
    event = WebhookEvent.COMPLETED
    host = factory.LazyAttribute(lambda made: urlsplit(made.endpoint.url).netloc)
    state = WebhookDelivery.State.PENDING
    next_try_at = factory.LazyAttribute(
        lambda made: timezone.now() - timedelta(minutes=1) if made.state == "pending" else None
    )
    give_up_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=3))
    ended_at = factory.LazyAttribute(lambda made: None if made.state == "pending" else timezone.now())


def completed_generation(**fields: Any) -> Generation:
    """A whole story: completed, its attempt succeeded, its result stored, its Events written."""
    generation = GenerationFactory.create(status=Status.COMPLETED, with_events=True, **fields)
    account = AccountFactory.create(provider_id=generation.provider_id)
    submission = SubmissionFactory.create(state=State.SUCCEEDED, generation=generation, account=account)
    AssetFactory.create(submission=submission)
    return generation


def paid_generation(price: int = 10, available: int = 100, **fields: Any) -> Generation:
    """Completed, and its credits spent: of ``available`` ones, ``price`` are gone."""
    user = fields.pop("user", None) or UserFactory.create()
    WalletFactory.create(user=user, available=available)
    generation = completed_generation(user=user, price=price, **fields)
    movement = [Movement(user.pk, generation.pk, price)]
    credits.hold(movement, actor=f"user:{user.pk}")
    credits.capture(movement, actor="worker:test")
    return generation


def _has_job(state: str) -> bool:
    return state in {State.ACCEPTED, State.COLLECTING, State.SUCCEEDED}


def _status_beside(state: str, *, abandoned: bool) -> Status:
    """The status of a Generation whose newest attempt is in ``state``."""
    if abandoned or state == State.FAILED:
        return Status.FAILED
    return {State.SUCCEEDED: Status.COMPLETED, State.CANCELLED: Status.CANCELLED}.get(State(state), Status.PROCESSING)


def _free_slot(account: Account) -> int:
    taken = set(account.submissions.holding_slot().values_list("slot", flat=True))
    return next(slot for slot in range(1, account.limit + 2) if slot not in taken)


class LibraryItemFactory(DjangoModelFactory[LibraryItem]):
    """A user's pose, in words; ``owner=None`` shares it."""

    class Meta:
        model = LibraryItem

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Pose {n}")
    category = "pose"
    prompt = "arms raised"


class BatchFactory(DjangoModelFactory[Batch]):
    """A batch of texts, without items."""

    class Meta:
        model = Batch

    user = factory.SubFactory(UserFactory)
    mode = Batch.Mode.TEXT
    provider_id = "modelslab"
    operation_type = Operation.TEXT_TO_IMAGE
    params = factory.LazyFunction(lambda: {"prompt": "a lake"})


class BatchItemFactory(DjangoModelFactory[BatchItem]):
    """An item whose Generation was made for it. ``generation__status=...`` says how far that is."""

    class Meta:
        model = BatchItem

    batch = factory.SubFactory(BatchFactory)
    position = factory.Sequence(lambda n: n)
    variation = factory.SelfAttribute("position")
    variation_key = factory.LazyAttribute(lambda made: f"text-v{made.variation}")
    generation = factory.SubFactory(
        GenerationFactory,
        user=factory.SelfAttribute("..batch.user"),
        provider_id=factory.SelfAttribute("..batch.provider_id"),
        operation_type=factory.SelfAttribute("..batch.operation_type"),
        standalone=False,
    )

    @classmethod
    def _create(cls, model_class: type[BatchItem], *args: Any, **kwargs: Any) -> BatchItem:
        item: BatchItem = super()._create(model_class, *args, **kwargs)
        if not item.reused:
            item.generation.batch_item = item
            item.generation.save(update_fields=["batch_item"])
        return item


class PromptVersionFactory(DjangoModelFactory[PromptVersion]):
    """The first version of a prompt of its own. ``prompt__user=...`` says whose."""

    class Meta:
        model = PromptVersion

    prompt = factory.SubFactory("tests.factories.PromptFactory")
    number = 1
    text = factory.Sequence(lambda n: f"a lake, version {n}")
    text_sha256 = factory.LazyAttribute(lambda made: hashlib.sha256(made.text.encode()).hexdigest())


class PromptFactory(DjangoModelFactory[Prompt]):
    """A prompt family, without versions."""

    class Meta:
        model = Prompt

    user = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"prompt {n}")


class ChapterFactory(DjangoModelFactory[Chapter]):
    """A chapter, without scenes and members."""

    class Meta:
        model = Chapter

    owner = factory.SubFactory(UserFactory)
    title = factory.Sequence(lambda n: f"Chapter {n}")


class SceneFactory(DjangoModelFactory[Scene]):
    """A scene of a chapter of its own."""

    class Meta:
        model = Scene

    chapter = factory.SubFactory(ChapterFactory)
    number = factory.Sequence(lambda n: n + 1)
    description = "A lake at dawn"


class ExportFactory(DjangoModelFactory[Export]):
    """An export of a stored picture of its user's, in any ``state``; a pending one is due, a done one has its file."""

    class Meta:
        model = Export

    user = factory.SelfAttribute("asset.user")
    asset = factory.SubFactory(AssetFactory)
    format = "instagram_feed"
    fit = Export.Fit.CROP
    colour = "#ffffff"
    state = Export.State.PENDING
    next_try_at = factory.LazyAttribute(
        lambda made: timezone.now() - timedelta(minutes=1) if made.state == "pending" else None
    )
    ended_at = factory.LazyAttribute(lambda made: None if made.state == "pending" else timezone.now())
    error_code = factory.LazyAttribute(lambda made: "export_failed" if made.state == "failed" else "")
    result = factory.Maybe(
        factory.LazyAttribute(lambda made: made.state == "done"),
        yes_declaration=factory.SubFactory(AssetFactory, role="export", user=factory.SelfAttribute("..user")),
        no_declaration=None,
    )
