"""On demand, the sandbox..."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import requests

from providers.sandbox import faults
from providers.sandbox.process import SandboxProcess
from tests.providers.sandbox.support import Speaker


def works(caller: Speaker, provider: str) -> int:
    label = caller.control.set_key(provider, caller.key)
    return len(caller.control.works(key=label))


def fired(caller: Speaker) -> list[str]:
    labels = {caller.control.set_key(provider, caller.key) for provider in ("pixverse", "modelslab")}
    return [firing["fault"] for firing in caller.control.firings() if firing["key"] in labels]


@pytest.mark.parametrize("provider", ["pixverse", "modelslab"])
@pytest.mark.parametrize(
    ("fault", "created"),
    [("accept_then_drop", 1), ("drop_before", 0)],
)
def test_closes_the_connection_without_a_reply(caller: Speaker, provider: str, fault: str, created: int) -> None:
    submit = caller.text_video if provider == "pixverse" else caller.picture
    with pytest.raises(requests.ConnectionError):
        submit(f"[[fault:{fault}]]")
    assert works(caller, provider) == created
    assert fired(caller) == [fault]
    assert caller.control.record(kind="submit", key=caller.control.set_key(provider, caller.key))[0]["fault"] == fault


@pytest.mark.parametrize(
    ("fault", "pixverse", "modelslab", "created"),
    [
        ("500_before", (500, 500069), 500, 0),
        ("503_before", (503, 500069), 503, 0),
        ("429:30", (429, 429), 429, 0),
        ("concurrency", (200, 500044), 429, 0),
        ("moderated_input", (200, 500063), 200, 0),
        ("no_credits", (200, 500043), 402, 0),
        ("auth_failed", (401, 10001), 401, 0),
        ("forbidden", (200, 500020), 403, 0),
        ("invalid_params", (200, 400017), 400, 0),
    ],
)
def test_refuses_in_the_providers_own_words(
    caller: Speaker, fault: str, pixverse: tuple[int, int], modelslab: int, created: int
) -> None:
    reply = caller.text_video(f"x [[fault:{fault}]]")
    assert (reply.status_code, reply.json()["ErrCode"]) == pixverse
    other = caller.picture(f"x [[fault:{fault}]]")
    assert (other.status_code, other.json()["status"]) == (modelslab, "error")
    assert works(caller, "pixverse") == works(caller, "modelslab") == created
    if fault == "429:30":
        assert reply.headers["Retry-After"] == other.headers["Retry-After"] == "30"
        assert other.json()["retry_after"] == 30


def test_answers_500_after_accepting(caller: Speaker) -> None:
    reply = caller.text_video("[[fault:500_after]]")
    assert reply.status_code == 500
    assert "html" in reply.headers["Content-Type"]
    assert works(caller, "pixverse") == 1


@pytest.mark.parametrize("form", ["", ":html", ":truncated", ":empty"])
def test_accepts_with_an_unreadable_reply(caller: Speaker, form: str) -> None:
    reply = caller.picture(f"[[fault:malformed{form}]]")
    assert reply.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        reply.json()
    assert works(caller, "modelslab") == 1


def test_spoils_the_id(caller: Speaker) -> None:
    assert "video_id" not in caller.text_video("[[fault:no_id]]").json()["Resp"]
    assert isinstance(caller.text_video("[[fault:bad_id]]").json()["Resp"]["video_id"], dict)
    assert len(caller.text_video("[[fault:bad_id:long]]").json()["Resp"]["video_id"]) == 10_240
    first = caller.text_video("plain").json()["Resp"]["video_id"]
    assert caller.text_video("[[fault:same_id]]").json()["Resp"]["video_id"] == first
    assert works(caller, "pixverse") == 5


def test_replies_late_though_it_accepted_at_once(caller: Speaker) -> None:
    url = f"{caller.base_url}/modelslab/api/v6/images/text2img"
    body = {"key": caller.key, "model_id": "flux", "prompt": "[[fault:slow_submit:2]]"}
    with pytest.raises(requests.ReadTimeout):
        requests.post(url, json=body, timeout=0.4)
    assert works(caller, "modelslab") == 1


def test_repeats_the_key_in_an_error(caller: Speaker) -> None:
    assert caller.key in caller.text_video("[[fault:key_echo]]").text
    assert caller.key not in caller.get(f"{caller.base_url}/_sandbox/record").text


@pytest.mark.parametrize(("fault", "status", "end"), [("job_failed", 8, "failed"), ("moderated_output", 7, "success")])
def test_ends_work_without_a_result(caller: Speaker, fault: str, status: int, end: str) -> None:
    assert caller.video_result(caller.text_video(f"[[fault:{fault}]]").json()["Resp"]["video_id"])["status"] == status
    answer = caller.fetched(caller.picture(f"[[fault:{fault}]]").json())
    assert answer["status"] == end
    if end == "success":
        assert answer["nsfw_content_detected"] is True


def test_ends_what_never_finishes_at_its_own_limit(caller: Speaker) -> None:
    video_id = caller.text_video("[[fault:never_finishes]]").json()["Resp"]["video_id"]
    assert caller.pixverse(f"/video/result/{video_id}").json()["Resp"]["status"] == 5
    assert caller.video_result(video_id)["status"] == 8


@pytest.mark.parametrize(
    ("fault", "url"), [("no_url", ""), ("late_moderation", "default.mp4"), ("bad_url", "file:///etc/passwd")]
)
def test_finishes_without_a_usable_address(caller: Speaker, fault: str, url: str) -> None:
    result = caller.video_result(caller.text_video(f"[[fault:{fault}]]").json()["Resp"]["video_id"])
    assert result["status"] == 1
    assert result["url"] == url or (url and result["url"].endswith(url))
    assert fired(caller) == [fault]


def test_delivers_one_output_fewer(caller: Speaker) -> None:
    answer = caller.fetched(caller.picture("[[fault:partial]]", samples=4).json())
    assert len(answer["output"]) == 3


def test_spoils_single_status_calls(caller: Speaker) -> None:
    marks = "[[fault:poll_500_once]] [[fault:poll_malformed_once]] [[fault:poll_404_once:2]] [[fault:poll_drop_once]]"
    reply = caller.picture(f"{marks} [[fault:poll_unknown_status:1]]").json()
    seen: list[object] = []
    for _ in range(7):
        with contextlib.suppress(requests.ConnectionError):
            answer = caller.modelslab(reply["fetch_result"], {})
            is_json = "json" in answer.headers["Content-Type"]
            seen.append((answer.status_code, answer.json()["status"] if is_json else "html"))
            continue
        seen.append("dropped")
    assert seen[:6] == [(500, "error"), (200, "html"), (404, "error"), (404, "error"), "dropped", (200, "pondering")]
    assert caller.fetched(reply)["status"] == "success"


def test_loses_a_job_for_good(caller: Speaker) -> None:
    video_id = caller.text_video("[[fault:lost_job]]").json()["Resp"]["video_id"]
    replies = [caller.pixverse(f"/video/result/{video_id}") for _ in range(3)]
    assert [(reply.status_code, reply.json()["ErrCode"]) for reply in replies] == [(404, 500008)] * 3


def output_of(caller: Speaker, fault: str) -> str:
    reply = caller.picture(f"a lake [[fault:{fault}]]", width=256, height=256).json()
    url: str = caller.fetched(reply)["output"][0]
    return url


def test_never_finds_a_404_url(caller: Speaker) -> None:
    url = output_of(caller, "404_url")
    assert [caller.get(url).status_code for _ in range(2)] == [404, 404]


def test_gives_a_fresh_address_after_one_expired(caller: Speaker) -> None:
    reply = caller.picture("a lake [[fault:expired_url_once]]").json()
    old = caller.fetched(reply)["output"][0]
    assert caller.get(old).status_code == 404
    new = caller.fetched(reply)["output"][0]
    assert new != old
    assert caller.get(new).status_code == 200
    assert caller.get(old).status_code == 404


def test_cuts_a_result_short(caller: Speaker) -> None:
    url = output_of(caller, "truncated")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        caller.get(url)


@pytest.mark.parametrize(("form", "length"), [("huge", str(500 * 1000**3)), ("huge:chunked", None)])
def test_sends_a_result_without_end(caller: Speaker, form: str, length: str | None) -> None:
    url = output_of(caller, form)
    with requests.get(url, stream=True, timeout=10) as reply:
        assert reply.headers.get("Content-Length") == length
        got = 0
        for chunk in reply.iter_content(65536):
            got += len(chunk)
            if got > 2_000_000:
                break
    assert got > 2_000_000


def test_drips(caller: Speaker) -> None:
    url = output_of(caller, "slow_drip")
    with requests.get(url, stream=True, timeout=10) as reply:
        assert int(reply.headers["Content-Length"]) > 1000
        assert reply.raw.read(1) == b"\x89"


@pytest.mark.parametrize(
    ("fault", "start"),
    [("html_media", b"<!doctype"), ("zero_bytes", b""), ("giant_picture", b"\x89PNG"), ("svg_media", b"<svg")],
)
def test_serves_something_else_under_the_right_name(caller: Speaker, fault: str, start: bytes) -> None:
    reply = caller.get(output_of(caller, fault))
    assert reply.headers["Content-Type"] == "image/png"
    assert reply.content.startswith(start)
    assert len(reply.content) < 2000


def test_strikes_only_so_often_when_the_marker_says_so(caller: Speaker) -> None:
    statuses = [caller.text_video("[[fault:500_before*2]] again").status_code for _ in range(3)]
    assert statuses == [500, 500, 200]


def test_draws_faults_by_rates_the_same_for_the_same_seed() -> None:
    rates = faults.checked_rates({"429": 0.2, "no_url": 0.1})
    drawn = [faults.draw(rates, 7, number) for number in range(1000)]
    assert drawn == [faults.draw(rates, 7, number) for number in range(1000)]
    assert drawn != [faults.draw(rates, 8, number) for number in range(1000)]
    assert 150 < drawn.count("429") < 250
    assert 65 < drawn.count("no_url") < 135


@pytest.mark.parametrize("rates", [{"nonsense": 0.1}, {"429": 2}, {"429": True}, {"429": 0.6, "no_url": 0.6}])
def test_refuses_rates_that_make_no_sense(caller: Speaker, rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rate|fault"):
        caller.control.set_rates(rates)


def test_follows_rates_and_leaves_marked_prompts_alone(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path, "--speed", "0", "--rates", '{"500_before": 1}') as process:
        speaker = Speaker(process.base_url)
        assert speaker.picture("by rate").status_code == 500
        assert speaker.picture("left alone [[fault:none]]").status_code == 200
        speaker.control.set_rates({})
        assert speaker.picture("no rates").status_code == 200
        assert speaker.control.summary()["faults"] == {"500_before": 1}
        speaker.close()
