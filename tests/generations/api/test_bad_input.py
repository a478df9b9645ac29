"""Bad input is never a 500 and changes nothing (shared note faults.md, "Bad input")."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from accounts.models import LedgerEntry
from generations.models import Asset, Event, Generation, IdempotencyKey
from tests.factories import AssetFactory, GenerationFactory, PriceFactory, WalletFactory, picture
from tests.generations.api.helpers import GENERATIONS, assert_problem

UNKNOWN_ID = "01a207cd-0168-7661-8dc1-15d46e9a95ba"
JSON = {"content_type": "application/json"}
SOMEWHERE = "https://a.example/x.png"

SEED: dict[str, Any] = {
    "operation_type": "text_to_video",
    "provider_id": "pixverse",
    "params": {"prompt": "test video", "quality": "720p"},
}


def with_params(**params: Any) -> dict[str, Any]:
    return {**SEED, "params": {**SEED["params"], **params}}


def picture_with(**params: Any) -> dict[str, Any]:
    return {
        "operation_type": "text_to_image",
        "provider_id": "modelslab",
        "params": {"prompt": "a fox", **params},
    }


def assert_nothing_changed() -> None:
    assert not Generation.objects.exists()
    assert not Event.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert not LedgerEntry.objects.filter(kind="hold").exists()


TEXT = json.dumps(SEED)
PROMPT = '{"operation_type": "text_to_video", "provider_id": "pixverse", "params": {"prompt": %s}}'
EXTRA = TEXT[:-1] + ', "metadata": {"x": %s}}'

RAW: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "malformed_body"),
    "null": (b"null", 400, "malformed_body"),
    "array": (b"[]", 400, "malformed_body"),
    "string": (b'"hello"', 400, "malformed_body"),
    "number": (b"1", 400, "malformed_body"),
    "truncated": (TEXT[:-5].encode(), 400, "malformed_body"),
    "two values": ((TEXT + TEXT).encode(), 400, "malformed_body"),
    "single quotes": (b"{'a': 1}", 400, "malformed_body"),
    "BOM": (b"\xef\xbb\xbf" + TEXT.encode(), 400, "malformed_body"),
    "UTF-16": (TEXT.encode("utf-16"), 400, "malformed_body"),
    "invalid UTF-8": (TEXT.replace("test", "te%s").encode().replace(b"%s", b"\xff\xfe"), 400, "malformed_body"),
    "over 256 kB": (json.dumps(with_params(prompt="x" * 262_144)).encode(), 413, "body_too_large"),
    "prompt of 1 MB": (json.dumps(with_params(prompt="x" * 1_000_000)).encode(), 413, "body_too_large"),
    "2,000-deep arrays": ((EXTRA % ("[" * 2000 + "]" * 2000)).encode(), 400, "malformed_body"),
    "100,000-deep arrays": (b"[" * 100_000, 400, "malformed_body"),
    "40-deep objects": ((EXTRA % ('{"a":' * 40 + "1" + "}" * 40)).encode(), 400, "malformed_body"),
    "5,000-digit int": ((EXTRA % ("9" * 5000)).encode(), 400, "malformed_body"),
    "2**63": ((EXTRA % 2**63).encode(), 400, "malformed_body"),
    "NaN": ((EXTRA % "NaN").encode(), 400, "malformed_body"),
    "Infinity": ((EXTRA % "-Infinity").encode(), 400, "malformed_body"),
    "1e999": ((EXTRA % "1e999").encode(), 400, "malformed_body"),
    "duplicate keys": ((TEXT[:-1] + ', "provider_id": "modelslab"}').encode(), 400, "malformed_body"),
    "duplicate keys, nested": ((EXTRA % '{"a": 1, "a": 2}').encode(), 400, "malformed_body"),
    "U+0000": ((PROMPT % '"a\\u0000b"').encode(), 400, "malformed_body"),
    "U+0000, nested": ((EXTRA % '[{"a": ["\\u0000"]}]').encode(), 400, "malformed_body"),
    "U+0000 in a key": ((EXTRA % '{"a\\u0000": 1}').encode(), 400, "malformed_body"),
    "raw control character": (TEXT.replace("test", "te\x00st").encode(), 400, "malformed_body"),
    "lone surrogate": ((PROMPT % '"\\ud800"').encode(), 400, "malformed_body"),
    "lone surrogate, nested": ((EXTRA % '{"a": ["\\udfff"]}').encode(), 400, "malformed_body"),
    "lone surrogate in a key": ((EXTRA % '{"\\udc00": 1}').encode(), 400, "malformed_body"),
}

BODIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty object": ({}, 400, "invalid_request"),
    "no params": ({name: SEED[name] for name in ("operation_type", "provider_id")}, 400, "invalid_request"),
    "params no object": ({**SEED, "params": [1]}, 400, "invalid_request"),
    "params null": ({**SEED, "params": None}, 400, "invalid_request"),
    "unknown field": ({**SEED, "colour": "red"}, 400, "invalid_request"),
    "status": ({**SEED, "status": "completed"}, 400, "invalid_request"),
    "user": ({**SEED, "user": 1}, 400, "invalid_request"),
    "price": ({**SEED, "price": 0}, 400, "invalid_request"),
    "id": ({**SEED, "id": UNKNOWN_ID}, 400, "invalid_request"),
    "provider_id a number": ({**SEED, "provider_id": 7}, 400, "invalid_request"),
    "unknown provider": ({**SEED, "provider_id": "nobody"}, 400, "unknown_provider"),
    "unknown operation": ({**SEED, "operation_type": "text_to_gold"}, 400, "unknown_operation"),
    "operation of another provider": ({**SEED, "operation_type": "text_to_image"}, 400, "unknown_operation"),
    "unknown model": (with_params(model="v999"), 400, "invalid_params"),
    "unknown parameter": (with_params(colour="red"), 400, "invalid_params"),
    "empty prompt": (with_params(prompt=""), 400, "invalid_params"),
    "blank prompt": (with_params(prompt="   "), 400, "invalid_params"),
    "prompt too long": (with_params(prompt="x" * 100_000), 400, "invalid_params"),
    "prompt a list": (with_params(prompt=["a"]), 400, "invalid_params"),
    "true for an int": (with_params(seed=True), 400, "invalid_params"),
    "text for an int": (with_params(seed="5"), 400, "invalid_params"),
    "fraction for an int": (with_params(duration=5.5), 400, "invalid_params"),
    "negative width": (picture_with(width=-1), 400, "invalid_params"),
    "width 10^9": (picture_with(width=10**9), 400, "invalid_params"),
    "priority 10": ({**SEED, "priority": 10}, 400, "invalid_request"),
    "priority -1": ({**SEED, "priority": -1}, 400, "invalid_request"),
    "priority true": ({**SEED, "priority": True}, 400, "invalid_request"),
    "reuse maybe": ({**SEED, "reuse": "maybe"}, 400, "invalid_request"),
    "scheduled without an offset": ({**SEED, "scheduled_at": "2026-01-01T00:00:00"}, 400, "invalid_request"),
    "scheduled as a number": ({**SEED, "scheduled_at": 1767225600}, 400, "invalid_request"),
    "scheduled in 9999": ({**SEED, "scheduled_at": "9999-12-31T23:59:59Z"}, 400, "invalid_request"),
    "scheduled in year 1": ({**SEED, "scheduled_at": "0001-01-01T00:00:00+14:00"}, 400, "invalid_request"),
    "account no id": ({**SEED, "account": "'; DROP TABLE"}, 400, "invalid_request"),
    "account unknown": ({**SEED, "account": UNKNOWN_ID}, 404, "unknown_account"),
    "parent unknown": ({**SEED, "parent": UNKNOWN_ID}, 404, "unknown_parent"),
    "metadata a list": ({**SEED, "metadata": []}, 400, "invalid_request"),
    "inputs no list": ({**SEED, "inputs": {}}, 400, "invalid_request"),
    "input without a source": ({**SEED, "inputs": [{"role": "image"}]}, 400, "invalid_request"),
    "input with two sources": (
        {
            **SEED,
            "inputs": [{"role": "image", "url": SOMEWHERE, "asset_id": UNKNOWN_ID}],
        },
        400,
        "invalid_request",
    ),
    "input that it does not take": (
        {**SEED, "inputs": [{"role": "image", "url": SOMEWHERE}]},
        400,
        "invalid_input",
    ),
    "input missing": ({**SEED, "operation_type": "image_to_video"}, 400, "invalid_input"),
    "a thousand inputs": (
        {**SEED, "inputs": [{"role": "image", "url": SOMEWHERE}] * 1000},
        400,
        "invalid_request",
    ),
}

HEADERS: dict[str, tuple[dict[str, str], int, str]] = {
    "no content type": ({"content_type": " "}, 415, "unsupported_media_type"),
    "text": ({"content_type": "text/plain"}, 415, "unsupported_media_type"),
    "form": ({"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    "multipart": ({"content_type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
    "latin-1": ({"content_type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
    "says gzip": ({**JSON, "HTTP_CONTENT_ENCODING": "gzip"}, 415, "unsupported_encoding"),
    "key of 256": (
        {**JSON, "HTTP_IDEMPOTENCY_KEY": "k" * 256},
        400,
        "invalid_idempotency_key",
    ),
    "key empty": ({**JSON, "HTTP_IDEMPOTENCY_KEY": ""}, 400, "invalid_idempotency_key"),
    "key no ASCII": (
        {**JSON, "HTTP_IDEMPOTENCY_KEY": "schlüssel"},
        400,
        "invalid_idempotency_key",
    ),
    "key with a tab": (
        {**JSON, "HTTP_IDEMPOTENCY_KEY": "a\tb"},
        400,
        "invalid_idempotency_key",
    ),
    "wants HTML": ({**JSON, "HTTP_ACCEPT": "text/html"}, 406, "not_acceptable"),
}

INSIDE = [
    "http://127.0.0.1/x.png",
    "http://127.1/x.png",
    "http://2130706433/x.png",
    "http://0x7f.1/x.png",
    "http://[::1]/x.png",
    "http://[::ffff:127.0.0.1]/x.png",
    "http://0.0.0.0/x.png",
    "http://10.0.0.1/x.png",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/x.png",
    "https://user:secret@example.com/x.png",
    "file:///etc/passwd",
    "ftp://example.com/x.png",
    "gopher://example.com/",
    "https://example.com:22/x.png",
    "https://example.com/x.png\r\nHost: internal",
    "data:image/png;base64,AAAA",
    "not a url",
]


@pytest.mark.parametrize("name", RAW)
def test_refuses_a_malformed_body(name: str, api: APIClient) -> None:
    raw, status, code = RAW[name]

    assert_problem(api.post(GENERATIONS, data=raw, content_type="application/json"), status, code)

    assert_nothing_changed()


@pytest.mark.parametrize("name", BODIES)
def test_refuses_a_wrong_request(name: str, api: APIClient) -> None:
    body, status, code = BODIES[name]

    told = assert_problem(api.post(GENERATIONS, body, format="json"), status, code)

    assert_nothing_changed()
    for error in told.get("errors", []):
        assert set(error) == {"field", "message"}


@pytest.mark.parametrize("name", BODIES)
def test_refuses_to_quote_a_wrong_request(name: str, api: APIClient) -> None:
    body, status, code = BODIES[name]

    assert_problem(api.post(f"{GENERATIONS}/quote", body, format="json"), status, code)

    assert_nothing_changed()


@pytest.mark.parametrize("name", HEADERS)
def test_refuses_wrong_headers(name: str, api: APIClient) -> None:
    headers, status, code = HEADERS[name]
    options: dict[str, Any] = dict(headers)

    reply = api.post(GENERATIONS, data=TEXT.encode(), **options)

    assert_problem(reply, status, code)
    assert_nothing_changed()


def test_refuses_a_compressed_body(api: APIClient) -> None:
    reply = api.post(
        GENERATIONS,
        data=gzip.compress(TEXT.encode()),
        content_type="application/json",
        HTTP_CONTENT_ENCODING="gzip",
    )

    assert_problem(reply, 415, "unsupported_encoding")
    assert_nothing_changed()


@pytest.mark.parametrize("url", INSIDE)
def test_refuses_an_input_url_that_leads_inside(url: str, api: APIClient) -> None:
    body = {**SEED, "operation_type": "image_to_video", "inputs": [{"role": "image", "url": url}]}

    reply = api.post(GENERATIONS, body, format="json")

    assert reply.status_code == 400, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert_nothing_changed()
    assert not Asset.objects.exists()


def test_refuses_an_input_url_of_more_than_2048_characters(api: APIClient) -> None:
    url = "https://example.com/" + "x" * 2048
    body = {**SEED, "operation_type": "image_to_video", "inputs": [{"role": "image", "url": url}]}

    assert_problem(api.post(GENERATIONS, body, format="json"), 400, "invalid_request")


def test_refuses_somebody_elses_asset_as_an_input(api: APIClient) -> None:
    asset = AssetFactory.create(role="input")
    body = {
        **SEED,
        "operation_type": "image_to_video",
        "inputs": [{"role": "image", "asset_id": str(asset.pk)}],
    }

    assert_problem(api.post(GENERATIONS, body, format="json"), 404, "unknown_asset")
    assert_nothing_changed()


def test_says_402_with_the_numbers_when_credits_are_missing(api: APIClient, user: User) -> None:
    PriceFactory.create(credits=10)
    WalletFactory.create(user=user, available=9)

    told = assert_problem(api.post(GENERATIONS, picture_with(), format="json"), 402, "insufficient_credits")

    assert (told["balance"], told["required"], told["operation_type"]) == (9, 10, "text_to_image")
    assert_nothing_changed()


def test_says_402_without_a_wallet(api: APIClient) -> None:
    PriceFactory.create(credits=10)

    assert_problem(api.post(GENERATIONS, picture_with(), format="json"), 402, "insufficient_credits")

    assert_nothing_changed()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("ordering=password", "unknown_parameter"),
        ("statsu=failed", "unknown_parameter"),
        ("format=json", "unknown_parameter"),
        ("offset=500000", "unknown_parameter"),
        ("status=broken", "invalid_parameter"),
        ("status=", "invalid_parameter"),
        ("status=%00", "invalid_parameter"),
        ("operation_type=text_to_gold", "invalid_parameter"),
        ("provider_id=%27%20OR%201=1", "invalid_parameter"),
        ("provider_id=%00", "invalid_parameter"),
        ("created_after=yesterday", "invalid_parameter"),
        ("created_after=2026-13-45", "invalid_parameter"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "invalid_parameter"),
        ("limit=0", "invalid_parameter"),
        ("limit=-1", "invalid_parameter"),
        ("limit=ten", "invalid_parameter"),
        ("limit=%D9%A3", "invalid_parameter"),
        ("cursor=", "invalid_parameter"),
        ("cursor=forged", "invalid_parameter"),
        ("cursor=" + "QUFB" * 8, "invalid_parameter"),
        ("cursor=%C3%A9", "invalid_parameter"),
    ],
)
def test_refuses_a_query_that_it_does_not_know(query: str, code: str, api: APIClient) -> None:
    assert_problem(api.get(f"{GENERATIONS}?{query}"), 400, code)


def test_refuses_more_query_parameters_than_anybody_needs(api: APIClient) -> None:
    query = "&".join(f"status=failed&a{number}=1" for number in range(2000))

    assert api.get(f"{GENERATIONS}?{query}").status_code == 400


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"picture": b"x"},
        {"file": "text"},
        {"file": b"x", "name": "more"},
    ],
    ids=["nothing", "another name", "a text", "one too many"],
)
def test_refuses_a_wrong_form(files: dict[str, Any], api: APIClient) -> None:
    sent = {
        name: SimpleUploadedFile("x.png", picture()) if isinstance(value, bytes) else value
        for name, value in files.items()
    }

    reply = api.post("/api/v1/assets", sent, format="multipart")

    assert_problem(reply, 400, "malformed_body")
    assert not Asset.objects.exists()


def test_refuses_a_form_without_a_boundary(api: APIClient) -> None:
    reply = api.post("/api/v1/assets", b"--x\r\nnonsense", content_type="multipart/form-data")

    assert_problem(reply, 400, "malformed_body")


def test_refuses_json_where_a_file_is_wanted(api: APIClient) -> None:
    assert_problem(api.post("/api/v1/assets", {"file": "x"}, format="json"), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("page.png", b"<html><body>hello</body></html>"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ("cut.png", picture()[:60]),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("../../etc/x.png", b"nothing"),
    ],
)
def test_refuses_a_file_that_is_no_media(name: str, content: bytes, api: APIClient) -> None:
    reply = api.post("/api/v1/assets", {"file": SimpleUploadedFile(name, content)}, format="multipart")

    assert reply.status_code == 400, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert not Asset.objects.exists()


@pytest.mark.parametrize("path", ["cancel", "retry"])
@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{",
        b'{"force": true}',
        b'{"insist": "yes"}',
        b'{"insist": 1}',
        b'{"params": []}',
        b'{"params": "x"}',
        b'{"params": {}}',
        b'{"params": {"prompt": "\\u0000"}}',
        b'{"params": {"prompt": "x", "seed": 1e400}}',
    ],
)
def test_refuses_wrong_bodies_of_actions(path: str, raw: bytes, api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="failed" if path == "retry" else "pending")

    reply = api.post(f"{GENERATIONS}/{row.pk}/{path}", data=raw, content_type="application/json")

    assert reply.status_code == 400, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert Generation.objects.count() == 1


def test_refuses_a_huge_object_with_a_key_twice_quickly(api: APIClient) -> None:
    keys = ",".join(f'"{number}":1' for number in range(20_000))
    raw = EXTRA % f'{{{keys},"19999":2}}'

    told = assert_problem(
        api.post(GENERATIONS, data=raw.encode(), content_type="application/json"), 400, "malformed_body"
    )

    assert "'19999'" in told["detail"]


def test_tells_what_an_address_offers(api: APIClient) -> None:
    assert api.options(GENERATIONS).status_code == 200
