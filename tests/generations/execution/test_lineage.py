"""From a picture to a film, each made from the result before, as the provider's stand-in saw it."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer

from generations import storage
from generations.execution import dispatch
from generations.intake.inputs import InputRef, store_upload
from generations.intake.request import Request, accept
from generations.intake.retry import retry
from generations.lifecycle import Status
from generations.models import Asset, Generation
from generations.reports.lineage import lineage
from providers import fetch
from tests.factories import picture
from tests.generations.execution.studio import Studio

pytestmark = pytest.mark.django_db
Film = Callable[..., Generation]


def made(studio: Studio, generation: Generation) -> Asset:
    """Its result, when it has one."""
    studio.due()
    dispatch.dispatch(generation.provider_id)
    assert studio.finish(generation).status == Status.COMPLETED
    [output] = studio.assets(generation)
    return output


def arrived(studio: Studio, asset: Asset) -> bytes:
    """The bytes that were uploaded to the provider: the stand-in keeps them under their own digest."""
    extension = asset.key.rpartition(".")[2]
    url = f"{studio.sandbox.base_url}/media/uploads/{asset.sha256[:32]}.{extension}"
    reply = requests.get(url, timeout=10)
    reply.raise_for_status()
    return reply.content


def calls(studio: Studio, generation: Generation) -> list[str]:
    """What the provider was sent for it, its polls left out."""
    attempt = studio.attempt(generation)
    kinds = [call["kind"] for call in studio.sandbox.record(request_id=str(attempt.pk))]
    return [kind for kind in kinds if kind in {"upload", "submit"}]


def stored(asset: Asset) -> bytes:
    """The bytes that we have."""

    with storage.open_key(asset.key) as file:
        return file.read()


@pytest.fixture
def film(studio: Studio) -> Film:
    """Asks Pixverse for a small video made from these inputs."""

    def ask(operation: str, inputs: dict[str, Any], **more: Any) -> Generation:
        refs = tuple(
            InputRef(role, url=given) if isinstance(given, str) else InputRef(role, asset_id=given.pk)
            for role, given in inputs.items()
        )
        request = Request("pixverse", operation, {"prompt": "slow waves", "quality": "360p"}, inputs=refs, **more)
        return accept(studio.user.pk, request, actor=f"user:{studio.user.pk}").generation

    return ask


def test_goes_from_a_picture_to_a_video_to_its_extension(studio: Studio, film: Film) -> None:
    studio.account()
    studio.account("pixverse")
    still = studio.ask()
    shot = made(studio, still)

    moving = film("image_to_video", {"image": shot})
    clip = made(studio, moving)
    longer = film("video_extend", {"video": clip})
    end = made(studio, longer)

    assert (still.parent, moving.parent, longer.parent) == (None, still, moving)
    assert arrived(studio, shot) == stored(shot)
    # Pixverse made the video itself, for this account: it is named by its job, and not sent back.
    assert (calls(studio, moving), calls(studio, longer)) == (["upload", "submit"], ["submit"])
    assert [one.depth for one in lineage(moving).relatives] == [-1, 0, 1]
    assert [one.picture for one in lineage(longer).relatives] == [shot, clip, end]


def test_uploads_from_our_storage_what_another_account_has_made(studio: Studio, film: Film) -> None:
    first = studio.account("pixverse")
    moving = studio.send_video().generation
    clip = made(studio, moving)
    first.enabled = False
    first.save(update_fields=["enabled"])
    studio.account("pixverse")

    longer = film("video_extend", {"video": clip})
    made(studio, longer)

    assert calls(studio, longer) == ["upload", "submit"]
    assert arrived(studio, clip) == stored(clip)


def test_makes_a_transition_between_two_results_whose_first_is_the_parent(studio: Studio, film: Film) -> None:
    studio.account()
    studio.account("pixverse")
    first, last = studio.ask(), studio.ask()
    frames = {"last_frame": made(studio, last), "first_frame": made(studio, first)}

    transition = film("video_transition", frames)
    made(studio, transition)

    assert transition.parent == last  # of the inputs as they were given
    for frame in frames.values():
        assert arrived(studio, frame) == stored(frame)


def test_believes_the_parent_that_is_named(studio: Studio, film: Film) -> None:
    studio.account()
    other, still = studio.ask(), studio.ask()

    assert film("image_to_video", {"image": made(studio, still)}, parent_id=other.pk).parent == other


def test_keeps_the_parent_of_what_is_retried(studio: Studio, film: Film) -> None:
    studio.account()
    still = studio.ask()
    moving = film("image_to_video", {"image": made(studio, still)})
    Generation.objects.filter(pk=moving.pk).update(
        status=Status.CANCELLED, completed_at=moving.created_at, active_fingerprint=None
    )

    again = retry(moving.pk, actor="test").generation

    assert (again.parent, again.retry_of) == (still, moving)
    assert [(one.generation, one.came_from) for one in lineage(still).relatives] == [
        (still, None),
        (moving, still.pk),
        (again, moving.pk),
    ]


def test_fetches_an_address_once_and_sends_the_bytes_that_it_has_kept(
    studio: Studio, film: Film, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = httpserver.url_for("").rstrip("/")
    for name in ("check_url", "download"):
        monkeypatch.setattr(fetch, name, partial(getattr(fetch, name), allowed_origin=origin))
    content = picture(size=(512, 512))
    httpserver.expect_oneshot_request("/cat.png").respond_with_data(content)
    studio.account("pixverse")

    moving = film("image_to_video", {"image": httpserver.url_for("/cat.png")})
    made(studio, moving)

    [given] = moving.inputs.all()
    assert (given.asset.role, moving.parent) == ("input", None)
    assert len(httpserver.log) == 1
    assert arrived(studio, given.asset) == content
    request = studio.attempt(moving).request
    assert origin not in str(request)


def test_knows_its_own_result_again_when_it_is_uploaded_or_fetched(studio: Studio, film: Film) -> None:

    studio.account()
    still = studio.ask()
    shot = made(studio, still)

    uploaded = store_upload(studio.user.pk, io.BytesIO(stored(shot)), name="from my desk.png")

    assert film("image_to_video", {"image": uploaded}).parent == still
