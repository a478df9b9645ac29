"""Adapters are sans-I/O: they turn our request into HTTP calls and replies into our words.

Each story (submit, poll, balance...) is a generator that yields ``Call``s and is sent
``Reply``s, and returns its result, so that a story of several calls (upload, then submit)
reads top to bottom and one transport drives them all. An adapter touches no socket, no
clock and no Django.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, ClassVar, Literal, NoReturn

from providers.errors import OutcomeUnknown, Unsupported
from providers.params import Params


class Secret(str):
    """Text that must never be stored or logged: ``redacted`` shows it as ``***``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input of the Generation, from our own storage.

    ``role`` is the params' name for it (``image``, ``first_frame``, ``video``...),
    ``open`` gives its bytes anew at each call, ``size`` is in bytes.
    """

    role: str
    name: str
    mime_type: str
    size: int
    sha256: str
    open: Callable[[], IO[bytes]]
    provider_job_id: str | None = None
    """The job that made it, where the same account at the same provider did (for extend)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call. ``path`` is below the account's base URL, or an absolute URL of the same origin.

    ``billable`` marks the point of no return: it is sent once, without retry or redirect.
    ``headers``, ``query``, ``json`` and ``form`` may hold ``Secret``s. ``files`` makes it multipart.
    ``fresh_headers`` are made anew each time the call is sent, also when it is repeated.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fresh_headers: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, InputFile] = field(default_factory=dict)
    billable: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, headers with lower-case names, and the whole (bounded) body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none, or nested too deep to be meant seriously.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            pass
        raise ValueError("nested too deep")


@dataclass(frozen=True, slots=True)
class Order:
    """What an adapter needs to know to submit: nothing about users, money or the database."""

    operation_type: str
    params: Params
    inputs: Sequence[InputFile]
    submission_id: str
    trace_ids: Callable[[], str]
    """Gives a fresh UUID at each call, for protocols that want one per request."""
    callback_url: str | None = None

    def input(self, role: str) -> InputFile:
        """The first input with this role. Raises KeyError when there is none (intake has checked)."""
        for file in self.inputs:
            if file.role == role:
                return file
        raise KeyError(role)


@dataclass(frozen=True, slots=True)
class Output:
    """One result: a URL at the provider (or a ``data:`` URL), and what it says it is."""

    url: str
    kind: Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class JobHandle:
    """What a poll needs: the provider's job id and what the adapter noted at submit (JSON values).

    ``note`` is empty for a job whose submit was never answered, and that was found otherwise: ``params`` (canonical)
    tell what was asked for.
    """

    job_id: str
    operation_type: str
    note: Mapping[str, Any] = field(default_factory=dict)
    trace_ids: Callable[[], str] = field(default=lambda: "")
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The provider accepted. With ``outputs`` it is already finished. ``poll_after`` is in seconds."""

    job_id: str
    note: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    poll_after: float | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PollResult:
    """Where the provider's job stands.

    * ``running``: also for a status that the adapter does not know (``raw_status`` tells).
    * ``succeeded``: ``outputs`` may still be empty, which is not yet an error.
    * ``failed``: the job ended without a result; ``error`` is JobFailed or ContentModerated.
    * ``missing``: the provider does not know the job (yet, or any more).

    A poll that could not be made or understood *raises*: it says nothing about the job.
    ``progress`` is 0 to 100 where the provider gives one.
    """

    state: Literal["running", "succeeded", "failed", "missing"]
    outputs: tuple[Output, ...] = ()
    progress: int | None = None
    poll_after: float | None = None
    cost: Decimal | None = None
    raw_status: str = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CallbackResult:
    """A callback names a job; it is only a reason to poll it now.

    ``reference`` is our Submission's id where the provider echoes it, else empty.
    """

    job_id: str
    raw_status: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class RecentJob:
    """One line of a provider's own list of an account's recent work.

    ``at`` is the provider's time of acceptance (aware, UTC). ``job_id`` and ``prompt`` are None where the list does
    not tell them. ``what`` is the provider's own word for the operation.
    """

    at: datetime
    job_id: str | None = None
    prompt: str | None = None
    what: str = ""
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of the form in which a person enters an account's credentials."""

    name: str
    label: str
    help_text: str = ""


SubmitStory = Generator[Call, Reply, SubmitResult]
PollStory = Generator[Call, Reply, PollResult]
CancelStory = Generator[Call, Reply, None]
BalanceStory = Generator[Call, Reply, Decimal]
FindStory = Generator[Call, Reply, SubmitResult | None]
RecentStory = Generator[Call, Reply, tuple[RecentJob, ...]]
Credentials = Mapping[str, str]


def _unsupported() -> Generator[Call, Reply, Any]:
    """The story of what a provider cannot do."""
    yield from ()
    raise Unsupported


class Provider:
    """A wire protocol. Subclasses fill in the facts and the stories; what they leave out is unsupported.

    An instance has no state and serves all accounts; credentials come as an argument.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    default_base_url: ClassVar[str]
    credential_fields: ClassVar[tuple[CredentialField, ...]] = (CredentialField("api_key", "API key"),)
    operations: ClassVar[Mapping[str, type[Params]]]
    """operation_type -> its params model, which also names its input roles."""
    balance_unit: ClassVar[str] = "credits"
    default_concurrency: ClassVar[int] = 3
    has_balance: ClassVar[bool] = False
    can_cancel: ClassVar[bool] = False
    can_find: ClassVar[bool] = False
    """True when a job can be looked up by our own reference."""
    lists_recent: ClassVar[bool] = False
    """True when the provider lists an account's recent work (or what it charged for)."""
    signs_callbacks: ClassVar[bool] = False
    """True when callbacks can be verified with a secret that the account knows."""
    blocking: ClassVar[bool] = False
    """True when the submit is held open until the result is there."""

    def submit(self, order: Order, credentials: Credentials) -> SubmitStory:
        """Upload what is needed, then make the one billable call.

        Raises (from the generator): any ProviderError that says what follows. Whatever the adapter
        does not surely know to mean "no job was made" must be OutcomeUnknown (see ``unknown``).
        """
        return _unsupported()

    def poll(self, handle: JobHandle, credentials: Credentials) -> PollStory:
        """Ask once where a job stands."""
        return _unsupported()

    def cancel(self, handle: JobHandle, credentials: Credentials) -> CancelStory:
        """Ask the provider to stop a job. Only where ``can_cancel``."""
        return _unsupported()

    def balance(self, credentials: Credentials, trace_ids: Callable[[], str]) -> BalanceStory:
        """What the account has left, in ``balance_unit``. Only where ``has_balance``."""
        return _unsupported()

    def find(self, submission_id: str, operation_type: str, credentials: Credentials) -> FindStory:
        """The job that the provider made of this Submission, None when it knows of none. Only where ``can_find``."""
        return _unsupported()

    def recent(
        self, since: datetime, until: datetime, credentials: Credentials, trace_ids: Callable[[], str]
    ) -> RecentStory:
        """The account's work that was accepted between two times (aware, UTC). Only where ``lists_recent``."""
        return _unsupported()

    def verify_callback(self, headers: Mapping[str, str], body: bytes, *, secret: str, form: str, now: float) -> str:
        """Check a callback's signature (header names in lower case, ``now`` in Unix seconds); gives its nonce.

        ``form`` is the account's ``callback_form``. Only where ``signs_callbacks``.

        Raises:
            ValueError: it is not signed with this secret, or too old. Its message is for the log.
        """
        raise Unsupported

    def parse_callback(self, headers: Mapping[str, str], body: bytes) -> CallbackResult:
        """Read a callback's body (header names in lower case).

        Raises:
            Unsupported: the protocol has none.
            ValueError: the body is not one of this provider's callbacks.
        """
        raise Unsupported

    @staticmethod
    def unknown(reply: Reply, why: str) -> NoReturn:
        """Raise OutcomeUnknown for a reply to a billable call that proves nothing."""
        raise OutcomeUnknown(f"{why} (HTTP {reply.status})")
