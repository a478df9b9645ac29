"""A result is ours, whole and checked, before anything says completed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from generations import media, storage
from generations.execution import collect as collecting
from generations.execution import recover, results, unknown
from generations.execution.collect import _claim, _write, collect
from generations.execution.dispatch import dispatch
from generations.execution.poll import poll
from generations.execution.results import Collected
from generations.lifecycle import State, Status
from generations.media import UnusableMedia
from generations.models import Asset, Generation, Submission
from providers.errors import AssetUnusable, NotDelivered
from tests.factories import AssetFactory, GenerationFactory, SubmissionFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio, stale

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def finished(studio: Studio, fault: str = "", **more: Any) -> tuple[Generation, Submission]:
    """One that the provider is done with."""
    if not studio.user.provider_accounts.exists():
        studio.account(limit=10)
    generation, attempt = studio.start(fault, **more)
    studio.poll_to_the_end(attempt)
    assert attempt.state == State.COLLECTING
    return generation, attempt


def test_stores_the_bytes_with_a_thumbnail_under_their_own_name(studio: Studio) -> None:
    generation, attempt = finished(studio)
    assert studio.collect() == 1
    [asset] = studio.assets(generation)
    with storage.open_key(asset.key) as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == asset.sha256
    assert (len(content), asset.mime_type.partition("/")[0]) == (asset.size, "image")
    assert (asset.width, asset.height) == (264, 264)
    assert default_storage.size(asset.thumbnail_key) > 0
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code) == (State.SUCCEEDED, "")
    assert studio.look(generation).status == Status.COMPLETED
    assert studio.events(generation)[-1] == "completed"


def test_stores_a_video(studio: Studio) -> None:
    studio.account("pixverse")
    generation = GenerationFactory.create(user=studio.user, params={"prompt": "a lighthouse in the wind"})
    dispatch("pixverse")
    attempt = studio.attempt(generation)
    studio.poll_to_the_end(attempt)
    studio.collect()
    [asset] = studio.assets(generation)
    assert asset.mime_type == "video/mp4"
    assert asset.duration
    assert default_storage.size(asset.thumbnail_key) > 0
    assert studio.look(generation).status == Status.COMPLETED


def test_gets_a_fresh_link_for_one_that_is_gone(studio: Studio) -> None:
    generation, attempt = finished(studio, "expired_url_once")
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    attempt.refresh_from_db()
    assert attempt.collect_tries == 0


@pytest.mark.parametrize("fault", ["404_url", "html_media", "zero_bytes", "svg_media", "giant_picture"])
def test_gives_up_what_is_no_result_after_five_tries(studio: Studio, fault: str) -> None:
    generation, attempt = finished(studio, fault)
    for tries in range(1, 5):
        studio.collect()
        attempt.refresh_from_db()
        assert (attempt.state, attempt.collect_tries) == (State.COLLECTING, tries)
        assert attempt.lease_until is not None
        assert attempt.lease_until > timezone.now(), "the next try waits"
    studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code, attempt.cost_at_risk) == (State.FAILED, "asset_unusable", True)
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "asset_unusable")
    assert studio.assets(generation) == []
    assert studio.wallet == (PURSE, 0)
    assert studio.incidents(attempt) == ["cost_at_risk"]
    assert studio.events(generation).count("collect_failed") == 1


def test_breaks_off_a_drip_at_its_limit_and_tries_again_until_its_time_is_over(
    studio: Studio, limits: Callable[..., None]
) -> None:
    generation, attempt = finished(studio, "slow_drip")
    limits(download_timeout=0.3)
    for _ in range(2):
        studio.collect()
        attempt.refresh_from_db()
        assert (attempt.state, attempt.collect_tries, attempt.error_code) == (State.COLLECTING, 0, "not_delivered")
    studio.past(attempt, "collect_by")
    studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.cost_at_risk) == (State.FAILED, True)
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "not_delivered")
    assert studio.wallet == (PURSE, 0)


def test_breaks_off_a_download_that_brings_nothing(studio: Studio, limits: Callable[..., None]) -> None:
    _generation, attempt = finished(studio, "slow_drip")  # a byte a second
    limits(download_idle=0.2)
    started = time.monotonic()
    studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code) == (State.COLLECTING, "not_delivered")
    assert time.monotonic() - started < 60


def test_waits_while_our_storage_is_down_and_counts_no_try(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, attempt = finished(studio)

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "keep", full)
        for _ in range(7):
            studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.collect_tries, attempt.error_code) == (State.COLLECTING, 0, "storage_failed")
    assert studio.incidents(attempt) == ["storage"]
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED


def test_gives_up_at_the_end_of_its_time(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, attempt = finished(studio)
    studio.past(attempt, "collect_by")
    monkeypatch.setattr(storage, "keep", lambda *_: (_ for _ in ()).throw(OSError("down")))
    studio.collect()
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "storage_failed")
    assert studio.money(generation) == ["hold", "release"]


def test_ends_one_that_cannot_even_be_tried(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, attempt = finished(studio)

    def broken(*_: Any) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(collecting, "collect_outputs", broken)
    studio.collect()
    attempt.refresh_from_db()
    assert attempt.state == State.COLLECTING
    studio.past(attempt, "collect_by")
    studio.collect()
    assert studio.look(generation).status == Status.FAILED, "an accepted request ends"


def test_stores_all_of_several(studio: Studio) -> None:
    generation, _ = finished(studio, samples=3)
    studio.collect()
    assert [asset.index for asset in studio.assets(generation)] == [0, 1, 2]
    assert studio.wallet == (PURSE - 3 * PRICE, 0)


def test_completes_with_what_there_is_when_one_of_several_stays_broken(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation, _ = finished(studio, samples=3)
    real = results._collect

    def second_is_broken(index: int, *others: Any) -> results.StoredOutput:
        if index == 1:
            raise AssetUnusable("broken")
        return real(index, *others)

    monkeypatch.setattr(results, "_collect", second_is_broken)
    for _ in range(4):
        studio.collect()
        assert studio.look(generation).status == Status.PROCESSING
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    assert [asset.index for asset in studio.assets(generation)] == [0, 2]
    assert generation.events.get(kind="completed").data == {"outputs": 2, "expected": 3, "partial": True}
    assert studio.wallet == (PURSE - 3 * PRICE, 0)


def test_says_so_when_the_provider_made_fewer(studio: Studio) -> None:
    generation, _ = finished(studio, "partial", samples=3)
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    assert generation.events.get(kind="completed").data["partial"] is True


def test_stores_once_what_two_collectors_are_at(studio: Studio) -> None:
    generation, _ = finished(studio)
    slow = uuid4()
    [row] = _claim(slow, 9)
    fetched = collecting._work(row)()
    assert _claim(uuid4(), 9) == [], "the slow one still owns it"
    studio.collect()
    _write(slow, [(row, fetched)])
    assert len(studio.assets(generation)) == 1
    assert studio.money(generation) == ["capture", "hold"]
    assert studio.events(generation).count("completed") == 1


@pytest.mark.parametrize(
    "lose", [stale, lambda attempt: Studio.past(attempt, "lease_until")], ids=["taken by another", "over"]
)
def test_writes_nothing_when_its_lease_is_over(studio: Studio, lose: Callable[[Submission], Any]) -> None:
    generation, attempt = finished(studio)
    token = uuid4()
    [row] = _claim(token, 9)
    lose(attempt)
    _write(token, [(row, collecting._work(row)())])
    assert studio.assets(generation) == []
    assert studio.look(generation).status == Status.PROCESSING


def test_writes_nothing_about_what_it_has_given_back() -> None:
    one = SubmissionFactory.create(state=State.COLLECTING, lease_until=None)
    token = uuid4()
    [row] = _claim(token, 9)
    _write(token, [(row, Collected((), NotDelivered()))])
    _write(token, [(row, Collected((), AssetUnusable()))])
    one.refresh_from_db()
    assert (one.state, one.error_code, one.collect_tries) == (State.COLLECTING, "not_delivered", 0)
    assert one.token != token


def test_keeps_a_late_result_and_never_spends_credits_for_it(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start()
    studio.past(generation, "deadline_at")
    Submission.objects.filter(pk=attempt.pk).update(state=State.UNKNOWN, provider_job_id=None, next_poll_at=None)
    recover.recover()
    assert (studio.look(generation).status, studio.money(generation)) == (Status.FAILED, ["hold", "release"])
    assert unknown.heard_of(attempt, str(attempt.provider_job_id))
    attempt.refresh_from_db()
    studio.poll_to_the_end(attempt)
    studio.collect()
    attempt.refresh_from_db()
    assert attempt.state == State.SUCCEEDED
    assert len(studio.assets(generation)) == 1
    assert studio.look(generation).status == Status.FAILED
    assert generation.active_fingerprint is None
    assert studio.money(generation) == ["hold", "release"]
    assert studio.wallet == (PURSE, 0)
    assert studio.incidents(attempt) == ["late_result"]
    assert studio.events(generation)[-1] == "late_result"


def test_completes_without_a_thumbnail_when_none_can_be_made(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> bytes:
        raise UnusableMedia("no picture of it")

    monkeypatch.setattr(media, "thumbnail", none)
    generation, _ = finished(studio)
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    assert studio.assets(generation)[0].thumbnail_key == ""


def test_refuses_a_picture_where_a_video_was_promised(studio: Studio) -> None:
    generation, attempt = finished(studio)
    outputs = [{**attempt.outputs[0], "kind": "video"}]
    Submission.objects.filter(pk=attempt.pk).update(outputs=outputs)
    studio.collect()
    assert studio.attempt(generation).error_code == "asset_unusable"


def test_fetches_from_no_private_address_but_the_accounts_own(studio: Studio) -> None:
    generation, attempt = finished(studio)
    Submission.objects.filter(pk=attempt.pk).update(outputs=[{"url": "http://127.0.0.1:22/x.png", "kind": "image"}])
    studio.collect()
    assert studio.attempt(generation).error_code == "unsafe_url"
    assert studio.assets(generation) == []


def test_opens_no_file_that_a_provider_names(studio: Studio) -> None:
    generation, _ = finished(studio, "bad_url:file:///etc/passwd")
    for _ in range(5):
        studio.collect()
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "unsafe_url")
    assert studio.wallet == (PURSE, 0)


def test_waits_and_tries_again_when_the_connection_breaks_off(studio: Studio) -> None:
    generation, attempt = finished(studio, "truncated")
    studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.collect_tries) == (State.COLLECTING, 0)
    assert attempt.error_code == "not_delivered"
    studio.past(attempt, "collect_by")
    studio.collect()
    assert (studio.look(generation).status, studio.assets(generation)) == (Status.FAILED, [])


def test_finds_nothing_when_nothing_waits() -> None:
    assert (collect(), poll()) == (0, 0)
    assert not Asset.objects.exists()


def test_takes_the_longest_waiting_first(limits: Any) -> None:
    old, new = (SubmissionFactory.create(state=State.COLLECTING) for _ in range(2))
    now = timezone.now()
    Submission.objects.filter(pk=old.pk).update(lease_until=now - timedelta(hours=2))
    Submission.objects.filter(pk=new.pk).update(lease_until=now - timedelta(hours=1))
    assert [row.pk for row in _claim(uuid4(), 9)] == [old.pk, new.pk]


def test_does_not_collect_what_is_stored_already() -> None:
    AssetFactory.create()
    assert collect() == 0


def test_does_not_give_up_for_our_own_storage_after_four_bad_results(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation, attempt = finished(studio)
    Submission.objects.filter(pk=attempt.pk).update(collect_tries=4)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "keep", lambda *_: (_ for _ in ()).throw(OSError("down")))
        studio.collect()
    assert studio.look(generation).status == Status.PROCESSING
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED


def test_completes_nothing_by_an_attempt_that_was_given_up_for_another(studio: Studio) -> None:
    """An operator had it sent again: the old attempt's result is kept, the Generation waits for the new one's."""
    generation, attempt = finished(studio)
    Submission.objects.filter(pk=attempt.pk).update(abandoned_at=timezone.now())
    studio.collect()
    assert studio.look(generation).status == Status.PROCESSING
    assert studio.money(generation) == ["hold"]
    assert len(studio.assets(generation)) == 1
    assert studio.attempt(generation).state == State.SUCCEEDED
