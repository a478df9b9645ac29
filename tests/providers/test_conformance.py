"""Every adapter ..."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers import registry
from providers.base import Call, CallbackResult, JobHandle, PollResult, Provider, Reply, Secret, SubmitResult
from providers.errors import OutcomeUnknown, ProviderError
from providers.redaction import request_record, secrets_of
from providers.transport import Conversation, Endpoint, converse
from tests.providers.conformance import (
    ABSURD_IDS,
    CASE_IDS,
    CASES,
    CREDENTIALS,
    DIALECTS,
    JUNK_BODIES,
    drive,
    fresh_id,
    order,
    reply,
)

each_case = pytest.mark.parametrize(("provider", "operation"), CASES, ids=CASE_IDS)
each_provider = pytest.mark.parametrize("provider", registry.all(), ids=lambda provider: provider.slug)
STATUSES = (200, 201, 204, 302, 400, 401, 402, 403, 404, 405, 409, 413, 422, 429, 500, 502, 503, 504)


def always(answer: Reply) -> Callable[[Call], Reply]:
    """Gives this reply to every call."""
    return lambda _: answer


def handle(provider: Provider, operation: str | None = None) -> JobHandle:
    return JobHandle("88120456", operation or next(iter(provider.operations)), {}, fresh_id)


# -- params ---------------------------------------------------------------------------------------


@each_case
def test_has_a_json_schema_good_enough_for_a_form(provider: Provider, operation: str) -> None:
    schema = provider.operations[operation].model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    for field in schema["properties"].values():
        assert field["title"]
    assert schema["required"] == ["prompt"]


@each_case
def test_needs_no_more_than_a_prompt(provider: Provider, operation: str) -> None:
    params = provider.operations[operation].model_validate({"prompt": "test video"})
    assert params.canonical()["prompt"] == "test video"
    assert params.output_count == 1


def test_takes_the_seed_request_of_the_first_requirement() -> None:
    params = (
        registry.get("pixverse").operations["text_to_video"].model_validate({"prompt": "test video", "quality": "720p"})
    )
    assert params.canonical()["quality"] == "720p"


@each_case
def test_gives_one_canonical_dump_to_the_same_request(provider: Provider, operation: str) -> None:
    model = provider.operations[operation]
    prompt = "un café à côté"
    short = model.model_validate({"prompt": unicodedata.normalize("NFC", prompt)}).canonical()
    decomposed = model.model_validate({"prompt": f"  {unicodedata.normalize('NFD', prompt)}\n"}).canonical()
    spelled_out = model.model_validate(dict(reversed(short.items()))).canonical()
    floats = {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in short.items()
    }
    texts = {
        json.dumps(one, sort_keys=True)
        for one in (short, decomposed, spelled_out, model.model_validate(floats).canonical())
    }
    assert len(texts) == 1


@each_case
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": 5},
        {"prompt": "x" * 5_001},
        {"prompt": "x", "nonsense": 1},
        {"prompt": "x", "seed": True},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "seed": 2**40},
        {"prompt": "x", "duration": "5"},
        {"prompt": "x", "duration": 10**9},
        {"prompt": "x", "width": -8},
        {"prompt": "x", "guidance_scale": float("nan")},
        {"prompt": "\ud800"},
    ],
)
def test_refuses_wrong_params(provider: Provider, operation: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        provider.operations[operation].model_validate(wrong)


@each_case
def test_refuses_inputs_that_it_cannot_use(provider: Provider, operation: str) -> None:
    params = provider.operations[operation].model_validate({"prompt": "x"})
    with pytest.raises(ProviderError):
        params.check_inputs({"spoon": 1})
    for role in params.input_roles:
        with pytest.raises(ProviderError):
            params.check_inputs(dict.fromkeys(params.input_roles, 1) | {role: 11})
        with pytest.raises(ProviderError):
            params.check_inputs({})


# -- submit ---------------------------------------------------------------------------------------


@each_case
def test_makes_exactly_one_billable_call_and_it_is_the_last(provider: Provider, operation: str) -> None:
    result, calls = drive(provider.submit(order(provider, operation), CREDENTIALS), DIALECTS[provider.slug].to_submit())
    assert [call.billable for call in calls] == [False] * (len(calls) - 1) + [True]
    assert isinstance(result, SubmitResult)
    assert isinstance(result.job_id, str)
    assert result.poll_after is None or result.poll_after > 0
    json.dumps(dict(result.note))


@each_case
def test_marks_its_secrets(provider: Provider, operation: str) -> None:
    _, calls = drive(provider.submit(order(provider, operation), CREDENTIALS), DIALECTS[provider.slug].to_submit())
    for call in calls:
        secrets = secrets_of(call)
        assert CREDENTIALS["api_key"] in secrets
        assert "Top/Secret" not in json.dumps(request_record(call, "http://x", call.headers, secrets))


@each_provider
def test_makes_no_call_without_credentials(provider: Provider) -> None:
    for operation in provider.operations:
        with pytest.raises(ProviderError) as caught:
            drive(provider.submit(order(provider, operation), {}), lambda call: pytest.fail(f"called {call.path}"))
        assert caught.value.code == "provider_auth"


def _refusals() -> list[Any]:
    return [
        pytest.param(provider, answer, expected, id=f"{provider.slug}-{answer.status}-{answer.body[:60]!r}")
        for provider in registry.all()
        for answer, expected in DIALECTS[provider.slug].refusals
    ]


@pytest.mark.parametrize(("provider", "answer", "expected"), _refusals())
def test_maps_each_error_reply_to_its_class(provider: Provider, answer: Any, expected: type[ProviderError]) -> None:
    for operation in provider.operations:
        with pytest.raises(ProviderError) as caught:
            drive(provider.submit(order(provider, operation), CREDENTIALS), DIALECTS[provider.slug].to_submit(answer))
        assert type(caught.value) is expected, caught.value.detail
        assert caught.value.detail


@each_provider
@pytest.mark.parametrize("body", JUNK_BODIES, ids=lambda body: repr(body[:40]))
def test_never_takes_junk_for_an_acceptance(provider: Provider, body: bytes) -> None:
    operation = next(iter(provider.operations))
    for status in STATUSES:
        story = provider.submit(order(provider, operation), CREDENTIALS)
        with pytest.raises(ProviderError) as caught:
            drive(story, DIALECTS[provider.slug].to_submit(reply(body, status)))
        if status < 300:
            assert type(caught.value) is OutcomeUnknown


@each_provider
@pytest.mark.parametrize("absurd", ABSURD_IDS, ids=lambda value: repr(value)[:20])
def test_calls_an_absurd_id_an_unknown_outcome(provider: Provider, absurd: object) -> None:
    body = json.dumps({**DIALECTS[provider.slug].accepted.json()})
    for known in ("371204488120551", "88120456"):
        body = body.replace(known, json.dumps(absurd))
    operation = next(iter(provider.operations))
    with pytest.raises(OutcomeUnknown):
        drive(
            provider.submit(order(provider, operation), CREDENTIALS),
            DIALECTS[provider.slug].to_submit(reply(body.encode())),
        )


@pytest.mark.parametrize(
    ("provider", "operation"),
    [case for case in CASES if case[0].operations[case[1]].input_roles],
    ids=[
        name
        for name, (provider, operation) in zip(CASE_IDS, CASES, strict=True)
        if provider.operations[operation].input_roles
    ],
)
def test_reports_a_failed_upload_as_nothing_made(provider: Provider, operation: str) -> None:
    wanted = order(provider, operation)
    for answer in (reply(b"<html>", 200), reply({}, 200), reply(b"", 500), reply(DIALECTS[provider.slug].running.body)):
        with pytest.raises(ProviderError) as caught:
            drive(provider.submit(wanted, CREDENTIALS), always(answer))
        assert not isinstance(caught.value, OutcomeUnknown)


# -- poll, balance, callback ----------------------------------------------------------------------


@each_case
def test_keeps_a_job_running_whose_status_it_does_not_know(provider: Provider, operation: str) -> None:
    dialect = DIALECTS[provider.slug]
    for answer in (dialect.running, dialect.unknown_status):
        result, calls = drive(provider.poll(handle(provider, operation), CREDENTIALS), always(answer))
        assert result.state == "running"
        assert [call.billable for call in calls] == [False]


_words = st.sampled_from(
    [
        *("ErrCode", "ErrMsg", "Resp", "video_id", "img_id", "media_id", "status", "id", "url", "credits"),
        *("credit_monthly", "message", "messege", "error", "eta", "output", "fetch_result", "nsfw_content_detected"),
        *("data", "balance", "retry_after"),
    ]
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.sampled_from([0, 1, 2, 5, 6, 7, 8, 500008, 500044, 500063, "success", "processing", "error", "failed", "1"])
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)


@each_provider
@settings(max_examples=150, deadline=None)
@given(
    body=_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
    status=st.sampled_from(STATUSES),
)
def test_raises_nothing_but_provider_errors_whatever_the_reply(provider: Provider, body: bytes, status: int) -> None:
    answer = reply(body, status, retry_after="soon")
    for operation in provider.operations:
        wanted = order(provider, operation)
        stories: list[Any] = [
            provider.submit(wanted, CREDENTIALS),
            provider.poll(handle(provider, operation), CREDENTIALS),
            provider.balance(CREDENTIALS, fresh_id),
        ]
        for story in stories:
            try:
                result, _ = drive(story, always(answer))
            except ProviderError:
                continue
            assert isinstance(result, (SubmitResult, PollResult, Decimal))
            if isinstance(result, PollResult) and result.state == "failed":
                assert isinstance(result.error, ProviderError)
    with suppress(ValueError):
        assert isinstance(provider.parse_callback({}, body), CallbackResult)


@each_provider
def test_reads_the_job_from_its_callback(provider: Provider) -> None:
    found = provider.parse_callback({}, DIALECTS[provider.slug].callback)
    assert found.job_id in ("371204488120551", "88120456")


@each_provider
@pytest.mark.parametrize("body", JUNK_BODIES[:12], ids=lambda body: repr(body[:40]))
def test_refuses_a_callback_that_is_none_of_its_own(provider: Provider, body: bytes) -> None:
    with pytest.raises(ValueError, match="names no job id"):
        provider.parse_callback({}, body)


def test_a_secret_does_not_show_in_a_repr() -> None:
    assert "key" not in repr({"api": Secret("key")})


# -- over real HTTP -------------------------------------------------------------------------------


def run(provider: Provider, base: str, operation: str, prompt: str) -> tuple[PollResult | SubmitResult, str]:
    """Submit and poll to the end. Gives the result and all that would be stored."""
    endpoint = Endpoint(base + DIALECTS[provider.slug].sandbox_prefix, allow_private=True)
    wanted = order(provider, operation, {"prompt": prompt})
    conversation = Conversation(provider.submit(wanted, CREDENTIALS), endpoint, request_id=fresh_id(), total_timeout=20)
    conversation.prepare()
    accepted = conversation.finish()
    stored = [*conversation.exchanges]
    result: PollResult | SubmitResult = accepted
    until = time.monotonic() + 60
    while not result.outputs and not (isinstance(result, PollResult) and result.state != "running"):
        assert time.monotonic() < until, "the sandbox did not finish"
        time.sleep(0.1)
        job = JobHandle(accepted.job_id, operation, accepted.note, fresh_id)
        result, exchanges = converse(provider.poll(job, CREDENTIALS), endpoint, request_id=fresh_id(), total_timeout=10)
        stored += exchanges
    return result, repr(stored)


@each_case
def test_gets_a_result_from_the_sandbox(provider: Provider, operation: str, sandbox_url: str) -> None:
    result, stored = run(provider, sandbox_url, operation, "a fox in the snow")
    (output,) = result.outputs
    assert output.url.startswith(sandbox_url)
    assert output.kind == ("image" if operation.endswith("_image") else "video")
    assert "Top/Secret" not in stored
    assert "***" in stored


@each_provider
def test_reads_the_balance_from_the_sandbox(provider: Provider, sandbox_url: str) -> None:
    endpoint = Endpoint(sandbox_url + DIALECTS[provider.slug].sandbox_prefix, allow_private=True)
    balance, _ = converse(provider.balance(CREDENTIALS, fresh_id), endpoint, request_id="r", total_timeout=10)
    assert balance > 0


SUBMIT_FAULTS = {
    "500_before": "provider_unavailable",
    "503_before": "provider_unavailable",
    "429": "provider_busy",
    "concurrency": "provider_busy",
    "moderated_input": "content_moderated",
    "no_credits": "provider_credits",
    "auth_failed": "provider_auth",
    "forbidden": "provider_permission",
    "invalid_params": "invalid_params",
    "key_echo": "invalid_params",
    "drop_before": "outcome_unknown",
    "accept_then_drop": "outcome_unknown",
    "500_after": "outcome_unknown",
    "malformed": "outcome_unknown",
    "no_id": "outcome_unknown",
    "bad_id": "outcome_unknown",
}


@each_provider
@pytest.mark.parametrize(("fault", "code"), SUBMIT_FAULTS.items())
def test_classifies_the_sandboxs_submit_faults(provider: Provider, fault: str, code: str, sandbox_url: str) -> None:
    endpoint = Endpoint(sandbox_url + DIALECTS[provider.slug].sandbox_prefix, allow_private=True)
    operation = next(iter(provider.operations))
    wanted = order(provider, operation, {"prompt": f"a fox [[fault:{fault}]]"})
    conversation = Conversation(provider.submit(wanted, CREDENTIALS), endpoint, request_id=fresh_id(), total_timeout=10)
    with pytest.raises(ProviderError) as caught:
        conversation.finish()
    assert caught.value.code == code, caught.value.detail
    assert "Top/Secret" not in repr(conversation.exchanges) + caught.value.detail + str(caught.value)
    assert len([one for one in conversation.exchanges if one.request["method"] == "POST"]) == 1
    if fault in ("429", "503_before"):
        assert caught.value.retry_after == 5


@each_provider
@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [
        ("job_failed", "failed", "provider_failed"),
        ("moderated_output", "failed", "content_moderated"),
        ("late_moderation", "failed", "content_moderated"),
        ("no_url", "succeeded", None),
        ("lost_job", "missing", None),
        ("poll_unknown_status", "succeeded", None),
        ("poll_500_once", "succeeded", None),
        ("poll_drop_once", "succeeded", None),
    ],
)
def test_reads_how_the_sandboxs_jobs_end(
    provider: Provider, fault: str, state: str, code: str | None, sandbox_url: str
) -> None:
    operation = next(iter(provider.operations))
    result, _ = run(provider, sandbox_url, operation, f"a fox [[fault:{fault}]]")
    assert isinstance(result, PollResult)
    assert result.state == state
    assert (result.error.code if isinstance(result.error, ProviderError) else None) == code
    assert bool(result.outputs) == (state == "succeeded" and fault != "no_url")
