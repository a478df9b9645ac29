"""Batches: asked for, quoted, looked at, changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from accounts.models import LedgerEntry, Wallet
from generations.conf import limits
from generations.execution import batches, recover, settle
from generations.execution.settle import Ending
from generations.intake import batches as intake
from generations.intake.batch_plan import BatchRequest, Planned, plan
from generations.lifecycle import State, Status
from generations.models import Batch, BatchItem, Export, Generation, Submission
from generations.reports import audit
from tests.factories import (
    AccountFactory,
    AssetFactory,
    BatchItemFactory,
    GenerationFactory,
    LibraryItemFactory,
    PriceFactory,
    PromptVersionFactory,
    SubmissionFactory,
    UserCapFactory,
    UserFactory,
    WalletFactory,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import GENERATIONS, assert_problem

BATCHES = "/api/v1/batches"
Body = dict[str, Any]


@pytest.fixture
def text() -> Body:
    """Three pictures of one text."""
    return {
        "mode": "text",
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a lighthouse"},
        "variations": 3,
    }


def gallery(items: Iterable[dict[str, Any]], **more: Any) -> Body:
    return {
        "mode": "gallery",
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a dancer in red"},
        "items": list(items),
        **more,
    }


def made(api: APIClient, body: Body, **headers: str) -> dict[str, Any]:
    reply = api.post(BATCHES, body, format="json", headers=headers)
    assert reply.status_code == 202, reply.json()
    told: dict[str, Any] = reply.json()
    return told


def items_of(api: APIClient, batch: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    reply = api.get(f"{BATCHES}/{batch['id']}/items{query}")
    assert reply.status_code == 200, reply.json()
    found: list[dict[str, Any]] = reply.json()["results"]
    return found


def end(status: Status, generations: Iterable[Generation | str], code: str = "") -> None:
    """End these Generations as the workers do."""
    ids = [one.pk if isinstance(one, Generation) else one for one in generations]
    rows = Generation.objects.filter(pk__in=ids)
    settle.end([Ending(row.pk, status, code) for row in rows], actor="test")


class TestText:
    def test_is_accepted_as_one_generation_for_each_variation(self, api: APIClient, user: User, text: Body) -> None:
        told = made(api, {**text, "name": "Towers", "metadata": {"for": "a friend"}})

        assert (told["status"], told["name"], told["mode"], told["progress"]) == ("pending", "Towers", "text", 0)
        assert told["counts"] == {
            "total": 3, "pending": 3, "processing": 0, "completed": 0, "failed": 0, "cancelled": 0,
        }  # fmt: skip
        items = items_of(api, told)
        assert [item["variation_key"] for item in items] == ["text-v0", "text-v1", "text-v2"]
        assert len({item["generation"]["id"] for item in items}) == 3
        assert {item["generation"]["params"]["prompt"] for item in items} == {"a lighthouse"}
        assert items[0]["generation"]["metadata"] == {"for": "a friend"}
        rows = Generation.objects.filter(user=user)
        assert {row.batch_item_id for row in rows} == {row.pk for row in BatchItem.objects.all()}
        assert not any(row.standalone for row in rows)

    def test_gives_each_variation_a_seed_of_its_own(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "params": {"prompt": "a lighthouse", "seed": 7}})

        assert [item["generation"]["params"]["seed"] for item in items_of(api, told)] == [7, 8, 9]

    def test_takes_other_params_for_single_ones(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "overrides": {"text-v1": {"guidance_scale": 3}}})

        assert [item["generation"]["params"]["guidance_scale"] for item in items_of(api, told)] == [7.5, 3, 7.5]

    def test_has_as_many_variations_as_the_setting_says(self, api: APIClient, text: Body, settings: Settings) -> None:
        assert_problem(api.post(BATCHES, {**text, "variations": 5}, format="json"), 400, "too_many_variations")

        settings.DARKROOM = {**settings.DARKROOM, "batch_text_variations": "5"}
        limits.cache_clear()
        try:
            assert made(api, {**text, "variations": 5})["counts"]["total"] == 5
        finally:
            limits.cache_clear()


class TestGallery:
    def test_makes_each_item_in_its_variations(self, api: APIClient, user: User) -> None:
        standing = LibraryItemFactory.create(owner=user, prompt="arms raised")
        shared = LibraryItemFactory.create(owner=None, prompt="sitting on a chair", category="Sitting poses")

        told = made(
            api,
            gallery([
                {"library_item": standing.pk, "variations": 2},
                {"library_item": shared.pk, "params": {"width": 256}},
            ]),
        )  # fmt: skip

        items = items_of(api, told)
        assert [item["variation_key"] for item in items] == [
            f"pose-{standing.pk}-v0", f"pose-{standing.pk}-v1", f"sitting-poses-{shared.pk}-v0",
        ]  # fmt: skip
        assert [item["generation"]["params"]["prompt"] for item in items] == [
            "a dancer in red, arms raised", "a dancer in red, arms raised", "a dancer in red, sitting on a chair",
        ]  # fmt: skip
        assert items[2]["generation"]["params"]["width"] == 256
        assert [item["library_item"] for item in items] == [standing.pk, standing.pk, shared.pk]

    def test_puts_an_items_words_where_the_variables_say(self, api: APIClient, user: User) -> None:
        item = LibraryItemFactory.create(owner=user, name="Warrior", prompt="{arms} raised")
        body = gallery([{"library_item": item.pk}], params={"prompt": "{name}: {prompt}, {style} {red|blue}"})

        (only,) = items_of(api, made(api, body))

        assert only["generation"]["params"]["prompt"] == "Warrior: {arms} raised, {style} {red|blue}"

    def test_takes_a_prompts_version_and_leaves_the_items_own_variables_to_them(
        self, api: APIClient, user: User
    ) -> None:
        item = LibraryItemFactory.create(owner=user, prompt="arms raised")
        version = PromptVersionFactory.create(prompt__user=user, text="{who}, {prompt}")
        body = gallery(
            [{"library_item": item.pk}], params={}, prompt_version=str(version.pk), variables={"who": "a dancer"}
        )

        (only,) = items_of(api, made(api, body))

        assert only["generation"]["params"]["prompt"] == "a dancer, arms raised"
        assert only["generation"]["prompt_version"] == str(version.pk)
        assert_problem(api.post(BATCHES, {**body, "variables": {}}, format="json"), 400, "missing_variables")

    def test_makes_pictures_from_the_items_pictures(self, api: APIClient, user: User) -> None:
        somebody = UserFactory.create()
        picture = AssetFactory.create(role="input", user=somebody)
        item = LibraryItemFactory.create(owner=None, picture=picture, prompt="")
        body = gallery([{"library_item": item.pk, "variations": 2}], operation_type="image_to_image")

        items = items_of(api, made(api, body))

        assert [one["generation"]["inputs"][0]["asset"]["sha256"] for one in items] == [picture.sha256] * 2

    def test_is_refused_when_an_item_is_deleted_at_this_moment(
        self, api: APIClient, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        item = LibraryItemFactory.create(owner=user)

        def then_deleted(user_id: int, wanted: BatchRequest) -> list[Planned]:
            found = plan(user_id, wanted)
            item.delete()
            return found

        monkeypatch.setattr(intake, "plan", then_deleted)

        reply = api.post(BATCHES, gallery([{"library_item": item.pk}]), format="json")

        assert_problem(reply, 404, "unknown_library_item")

    def test_knows_no_item_of_somebody_else(self, api: APIClient) -> None:
        item = LibraryItemFactory.create()

        reply = api.post(BATCHES, gallery([{"library_item": item.pk}]), format="json")

        assert_problem(reply, 404, "unknown_library_item")
        assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"mode": "pictures"}, "invalid_request", "mode"),
        ({"variations": 0}, "invalid_request", "variations"),
        ({"variations": True}, "invalid_request", "variations"),
        ({"items": [{"library_item": 1}]}, "invalid_batch", "gallery"),
        ({"mode": "gallery"}, "invalid_batch", "at least one library item"),
        ({"mode": "gallery", "items": [{"library_item": 1}] * 2}, "invalid_batch", "listed twice"),
        ({"mode": "gallery", "items": [{"library_item": 1, "variations": 1000}] * 3}, "invalid_batch", "twice"),
        (
            {"mode": "gallery", "items": [{"library_item": n, "variations": 1000} for n in (1, 2, 3)]},
            "too_many_items",
            "2,000",
        ),
        ({"overrides": {"text-v9": {}}}, "unknown_variation", "text-v9"),
        ({"overrides": {"text-v1": {"width": -1}}}, "invalid_params", "item text-v1: params.width"),
        ({"params": {"prompt": ""}}, "invalid_params", "item text-v0: params.prompt"),
        ({"provider_id": "nobody"}, "unknown_provider", "nobody"),
        ({"operation_type": "text_to_song"}, "unknown_operation", "text_to_song"),
        ({"status": "completed"}, "invalid_request", "status"),
        ({"operation_type": "image_to_image"}, "invalid_input", "item text-v0"),
    ],
)
def test_refuses_what_is_wrong_and_says_where(api: APIClient, text: Body, change: Body, code: str, says: str) -> None:
    reply = api.post(BATCHES, {**text, **change}, format="json")

    told = assert_problem(reply, 400, code)
    assert says in f"{told['detail']} {told.get('errors')}"
    assert not Generation.objects.exists()


class TestMoney:
    def test_holds_all_of_it_or_nothing(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        wallet = WalletFactory.create(user=user, available=29)

        refused = api.post(BATCHES, text, format="json")

        told = assert_problem(refused, 402, "insufficient_credits")
        assert (told["balance"], told["required"], told["operation_type"]) == (29, 30, "text_to_image")
        assert not Generation.objects.exists()
        assert not Batch.objects.exists()
        Wallet.objects.filter(pk=wallet.pk).update(available=30)
        LedgerEntry.objects.filter(wallet=wallet).update(available_change=30)

        told = made(api, text)

        assert told["credits"] == {"charged": 0, "held": 30, "released": 0, "refunded": 0}
        wallet.refresh_from_db()
        assert (wallet.available, wallet.held) == (0, 30)

    def test_says_what_it_has_cost(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        told = made(api, text)
        first, second, _ = (item["generation"]["id"] for item in items_of(api, told))
        end(Status.COMPLETED, [first])
        end(Status.FAILED, [second], "provider_failed")
        wallet = Wallet.objects.get()
        LedgerEntry.objects.create(wallet=wallet, kind="refund", reference=first, available_change=4, actor="test")

        told = api.get(f"{BATCHES}/{told['id']}").json()

        assert told["credits"] == {"charged": 10, "held": 10, "released": 10, "refunded": 4}

    def test_counts_towards_the_users_caps_as_a_whole(self, api: APIClient, user: User, text: Body) -> None:
        UserCapFactory.create(user=user, max_queued=2)

        told = assert_problem(api.post(BATCHES, text, format="json"), 429, "user_cap_reached")

        assert "3 more" in told["detail"]
        assert not Generation.objects.exists()


class TestSameness:
    def test_answers_the_same_key_with_the_same_batch(self, api: APIClient, text: Body) -> None:
        key = {"Idempotency-Key": "batch-1"}
        first = made(api, text, **key)

        again = api.post(BATCHES, text, format="json", headers=key)

        assert again.json()["id"] == first["id"]
        assert again.headers["Idempotent-Replayed"] == "true"
        assert Generation.objects.count() == 3
        other = api.post(BATCHES, {**text, "variations": 2}, format="json", headers=key)
        assert_problem(other, 422, "idempotency_key_reused")

    def test_never_answers_a_batch_with_a_generation(self, api: APIClient, text: Body, body: Body) -> None:
        key = {"Idempotency-Key": "one key"}
        assert api.post(GENERATIONS, body, format="json", headers=key).status_code == 202

        assert_problem(api.post(BATCHES, text, format="json", headers=key), 422, "idempotency_key_reused")

    def test_reuses_what_another_batch_has_made(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        first = made(api, {**text, "variations": 2})

        second = made(api, text)

        assert (second["reused"], second["credits"]["held"]) == (2, 10)
        assert [item["reused"] for item in items_of(api, second)] == [True, True, False]
        assert Generation.objects.count() == 3
        assert first["id"] != second["id"]

    def test_makes_variations_of_one_text_different_from_a_single_request(self, api: APIClient, text: Body) -> None:
        single = {name: text[name] for name in ("provider_id", "operation_type", "params")}
        assert api.post(GENERATIONS, single, format="json").status_code == 202

        assert made(api, text)["reused"] == 0

    def test_makes_everything_anew_where_that_is_wanted(self, api: APIClient, text: Body) -> None:
        made(api, text)

        assert made(api, {**text, "reuse": "none"})["reused"] == 0
        assert Generation.objects.count() == 6

    def test_refuses_what_may_still_be_billed_as_a_whole(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        for item in items_of(api, told):
            SubmissionFactory.create(
                generation_id=item["generation"]["id"], state=State.ACCEPTED, abandoned_at=timezone.now()
            )
            end(Status.FAILED, [item["generation"]["id"]], "deadline_exceeded")

        told = assert_problem(api.post(BATCHES, text, format="json"), 409, "possibly_billed")

        assert "3 of these" in told["detail"]
        assert len(told["generations"]) == 3


class TestExports:
    def test_keeps_the_formats_that_every_output_is_exported_in(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "export_formats": ["instagram_story", {"format": "tiktok", "fit": "pad"}]})

        assert [one["format"] for one in told["export_formats"]] == ["instagram_story", "tiktok"]
        assert told["export_formats"][1]["fit"] == "pad"

    def test_refuses_a_format_that_there_is_none_of(self, api: APIClient, text: Body) -> None:
        for path in (BATCHES, f"{BATCHES}/quote"):
            reply = api.post(path, {**text, "export_formats": ["myspace"]}, format="json")
            assert_problem(reply, 400, "invalid_format")

    def test_exports_what_was_there_before(self, api: APIClient, user: User, text: Body) -> None:
        first = made(api, {**text, "variations": 1})
        (item,) = items_of(api, first)
        SubmissionFactory.create(generation_id=item["generation"]["id"], state=State.SUCCEEDED)
        AssetFactory.create(user=user, submission=Submission.objects.get())
        end(Status.COMPLETED, [item["generation"]["id"]])

        made(api, {**text, "variations": 2, "export_formats": ["tiktok"]})

        assert Export.objects.get().asset.submission == Submission.objects.get()


class TestQuote:
    def test_says_what_it_would_cost_and_reuse(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=25)
        made(api, {**text, "variations": 1})

        told = api.post(f"{BATCHES}/quote", text, format="json").json()

        assert (told["price"], told["reused"], told["balance"]) == (20, 1, 15)
        assert told["items"] == ["text-v0", "text-v1", "text-v2"]
        assert (told["conflicts"], told["cap_reached"], told["eta_seconds"]) == ([], None, None)
        assert Generation.objects.count() == 1

    def test_names_what_it_would_be_refused_for(self, api: APIClient, user: User, text: Body) -> None:
        item = items_of(api, made(api, {**text, "variations": 1}))[0]
        SubmissionFactory.create(
            generation_id=item["generation"]["id"], state=State.ACCEPTED, abandoned_at=timezone.now()
        )
        end(Status.FAILED, [item["generation"]["id"]], "deadline_exceeded")
        UserCapFactory.create(user=user, max_per_day=2)

        told = api.post(f"{BATCHES}/quote", text, format="json").json()

        assert told["conflicts"] == ["text-v0"]
        assert "no more than 2 a day" in told["cap_reached"]

    def test_knows_how_long_the_last_one_takes(self, api: APIClient, text: Body) -> None:
        AccountFactory.create(provider_id="modelslab", limit=1)
        started = timezone.now()
        GenerationFactory.create(
            provider_id="modelslab",
            operation_type="text_to_image",
            params={"prompt": "an older one", "model_id": "flux"},
            status=Status.COMPLETED,
            started_at=started - timedelta(seconds=10),
            completed_at=started,
        )

        told = api.post(f"{BATCHES}/quote", text, format="json").json()

        assert told["eta_seconds"] == pytest.approx(30, abs=1)


class TestCosts:
    def test_takes_a_thousand_in_as_many_statements_as_two(
        self, api: APIClient, user: User, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        PriceFactory.create(credits=1)
        WalletFactory.create(user=user, available=5000)
        item = LibraryItemFactory.create(owner=user)
        with django_assert_max_num_queries(24) as few:
            made(api, gallery([{"library_item": item.pk, "variations": 2}], context=1))
            number = len(few)

        with django_assert_max_num_queries(number):
            told = made(api, gallery([{"library_item": item.pk, "variations": 1000}]))

        assert told["counts"]["total"] == 1000

    def test_shows_a_page_in_as_many_queries_as_one(
        self, api: APIClient, text: Body, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        first = made(api, text)
        with django_assert_max_num_queries(8) as few:
            api.get(BATCHES)
            number = len(few)
        with django_assert_max_num_queries(16) as few_items:
            api.get(f"{BATCHES}/{first['id']}/items")
            number_items = len(few_items)
        for _ in range(3):
            made(api, {**text, "reuse": "none", "variations": 4})

        with django_assert_max_num_queries(number):
            assert len(api.get(BATCHES).json()["results"]) == 4
        newest = Batch.objects.order_by("-pk")[0]
        with django_assert_max_num_queries(number_items):
            api.get(f"{BATCHES}/{newest.pk}/items")


class TestStatus:
    def test_is_partial_when_some_have_failed_and_complete_after_their_retry(
        self, api: APIClient, user: User, text: Body
    ) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        told = made(api, text)
        ids = [item["generation"]["id"] for item in items_of(api, told)]
        end(Status.COMPLETED, ids[:2])
        assert api.get(f"{BATCHES}/{told['id']}").json()["status"] == "processing"
        end(Status.FAILED, ids[2:], "provider_failed")
        recover.tick()

        told = api.get(f"{BATCHES}/{told['id']}").json()
        assert (told["status"], told["progress"], told["counts"]["failed"]) == ("partial", 66, 1)
        assert told["closed_at"]
        reply = api.post(told["links"]["retry"], format="json")

        assert reply.status_code == 202
        after = reply.json()
        assert (after["retried"], after["possibly_billed"]) == (1, [])
        assert (after["batch"]["status"], after["batch"]["closed_at"]) == ("processing", None)
        last = items_of(api, told)[2]
        assert last["earlier"] == [ids[2]]
        assert last["generation"]["retry_of"] == ids[2]
        assert [item["generation"]["id"] for item in items_of(api, told)][:2] == ids[:2]
        end(Status.COMPLETED, [last["generation"]["id"]])
        recover.tick()
        told = api.get(f"{BATCHES}/{told['id']}").json()
        assert (told["status"], told["progress"]) == ("completed", 100)
        assert told["credits"] == {"charged": 30, "held": 0, "released": 10, "refunded": 0}
        assert [found for found in audit.run() if found.id != "I8"] == []  # there are no outputs

    def test_is_closed_once(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        end(Status.FAILED, [item["generation"]["id"] for item in items_of(api, told)], "provider_failed")
        assert batches.close_finished() == 1
        closed = Batch.objects.get().closed_at

        assert batches.close_finished() == 0
        assert Batch.objects.get().closed_at == closed
        assert api.get(f"{BATCHES}/{told['id']}").json()["status"] == "failed"

    def test_follows_a_retry_of_a_single_generation(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 1})
        (item,) = items_of(api, told)
        end(Status.FAILED, [item["generation"]["id"]], "provider_failed")
        batches.close_finished()

        new = api.post(f"{GENERATIONS}/{item['generation']['id']}/retry", format="json").json()

        assert items_of(api, told)[0]["generation"]["id"] == new["id"]
        assert api.get(f"{BATCHES}/{told['id']}").json()["closed_at"] is None

    def test_lists_the_generations_of_a_batch_and_items_by_status(self, api: APIClient, text: Body) -> None:
        made(api, {**text, "reuse": "none"})
        told = made(api, {**text, "reuse": "none"})
        ids = [item["generation"]["id"] for item in items_of(api, told)]
        end(Status.FAILED, ids[:1], "provider_failed")

        listed = api.get(f"{GENERATIONS}?batch={told['id']}").json()["results"]

        assert sorted(row["id"] for row in listed) == sorted(ids)
        assert [item["variation_key"] for item in items_of(api, told, "?status=failed")] == ["text-v0"]
        assert len(items_of(api, told, "?status=pending&limit=1")) == 1

    def test_goes_through_the_items_page_by_page_in_their_order(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        first = api.get(f"{BATCHES}/{told['id']}/items?limit=2").json()

        second = api.get(first["next"]).json()

        keys = [item["variation_key"] for page in (first, second) for item in page["results"]]
        assert keys == ["text-v0", "text-v1", "text-v2"]
        assert second["next"] is None


class TestRetry:
    def test_leaves_what_may_still_be_billed_unless_somebody_insists(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 2})
        ids = [item["generation"]["id"] for item in items_of(api, told)]
        SubmissionFactory.create(generation_id=ids[0], state=State.ACCEPTED, abandoned_at=timezone.now())
        end(Status.FAILED, ids, "deadline_exceeded")

        after = api.post(f"{BATCHES}/{told['id']}/retry", format="json").json()
        assert (after["retried"], after["possibly_billed"]) == (1, ["text-v0"])
        assert_problem(api.post(f"{BATCHES}/{told['id']}/retry", format="json"), 409, "possibly_billed")
        after = api.post(f"{BATCHES}/{told['id']}/retry", {"insist": True}, format="json").json()
        assert (after["retried"], after["possibly_billed"]) == (1, [])
        assert_problem(api.post(f"{BATCHES}/{told['id']}/retry", format="json"), 409, "nothing_failed")

    def test_holds_all_of_it_or_nothing(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=30)
        told = made(api, text)
        end(Status.FAILED, [item["generation"]["id"] for item in items_of(api, told)], "provider_failed")
        PriceFactory._meta.model.objects.update(credits=11)

        assert_problem(api.post(f"{BATCHES}/{told['id']}/retry", format="json"), 402, "insufficient_credits")

        assert Generation.objects.count() == 3

    def test_makes_one_item_anew_whatever_came_of_it(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        told = made(api, {**text, "variations": 1})
        (item,) = items_of(api, told)
        where = f"{BATCHES}/{told['id']}/items/text-v0/regenerate"
        assert_problem(api.post(where, format="json"), 409, "live_twin")
        end(Status.COMPLETED, [item["generation"]["id"]])
        batches.close_finished()

        reply = api.post(where, format="json")

        assert reply.status_code == 202
        assert reply.json()["retry_of"] is None
        (again,) = items_of(api, told)
        assert again["generation"]["id"] == reply.json()["id"] != item["generation"]["id"]
        assert again["earlier"] == [item["generation"]["id"]]
        told = api.get(f"{BATCHES}/{told['id']}").json()
        assert (told["closed_at"], told["credits"]["charged"], told["credits"]["held"]) == (None, 10, 10)
        for key in ("text-v7", "%00", "x" * 300):
            assert api.post(f"{BATCHES}/{told['id']}/items/{key}/regenerate", format="json").status_code == 404


class TestCancel:
    def test_ends_what_waits_and_gives_its_credits_back(self, api: APIClient, user: User, text: Body) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=30)
        told = made(api, text)

        reply = api.post(f"{BATCHES}/{told['id']}/cancel", format="json")

        assert reply.status_code == 200
        assert (reply.json()["status"], reply.json()["counts"]["cancelled"]) == ("cancelled", 3)
        assert reply.json()["credits"] == {"charged": 0, "held": 0, "released": 30, "refunded": 0}
        assert_problem(api.post(f"{BATCHES}/{told['id']}/cancel", format="json"), 409, "already_ended")
        assert_problem(api.post(f"{BATCHES}/{told['id']}/retry", format="json"), 409, "batch_cancelled")
        assert audit.run() == []

    def test_asks_the_provider_about_what_is_there(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        sent, reserved, _ = (item["generation"]["id"] for item in items_of(api, told))
        Generation.objects.filter(pk__in=[sent, reserved]).update(status=Status.PROCESSING)
        SubmissionFactory.create(generation_id=sent, state=State.ACCEPTED)
        SubmissionFactory.create(generation_id=reserved, state=State.RESERVED)

        reply = api.post(f"{BATCHES}/{told['id']}/cancel", format="json")

        assert reply.status_code == 202
        assert reply.json()["counts"]["cancelled"] == 2
        assert Generation.objects.get(pk=sent).cancel_requested_at is not None
        assert set(Submission.objects.values_list("state", flat=True)) == {State.ACCEPTED, State.CANCELLED}

    def test_keeps_what_somebody_else_wants(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        other = made(api, {**text, "variations": 1})
        second = items_of(api, told)[1]["generation"]["id"]
        Generation.objects.filter(pk=second).update(standalone=True)

        after = api.post(f"{BATCHES}/{told['id']}/cancel", format="json").json()

        assert (after["status"], after["counts"]["cancelled"]) == ("cancelled", 3)
        assert [row.status for row in Generation.objects.order_by("pk")] == ["pending", "pending", "cancelled"]
        assert api.get(f"{BATCHES}/{other['id']}").json()["status"] == "pending"
        after = api.post(f"{BATCHES}/{other['id']}/cancel", format="json").json()
        assert after["counts"]["cancelled"] == 1
        assert [row.status for row in Generation.objects.order_by("pk")] == ["cancelled", "pending", "cancelled"]

    def test_answers_nobody_with_what_is_being_cancelled(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 1})
        (item,) = items_of(api, told)
        Generation.objects.update(status=Status.PROCESSING)
        SubmissionFactory.create(generation_id=item["generation"]["id"], state=State.ACCEPTED)
        api.post(f"{BATCHES}/{told['id']}/cancel", format="json")

        refused = assert_problem(api.post(BATCHES, text, format="json"), 409, "being_cancelled")

        assert refused["generation"] == item["generation"]["id"]
        assert api.post(f"{BATCHES}/quote", text, format="json").json()["conflicts"] == ["text-v0"]

    def test_leaves_what_was_retried_after_it_alone(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 1})
        (item,) = items_of(api, told)
        api.post(f"{BATCHES}/{told['id']}/cancel", format="json")

        retried = api.post(f"{GENERATIONS}/{item['generation']['id']}/retry", format="json").json()

        assert Generation.objects.get(pk=retried["id"]).standalone


class TestPause:
    def test_keeps_what_waits_waiting_until_it_is_resumed(self, api: APIClient, text: Body) -> None:
        told = made(api, text)

        after = api.post(f"{BATCHES}/{told['id']}/pause", format="json").json()

        assert after["paused"]
        assert after["links"]["resume"]
        recover.tick()
        items = items_of(api, told)
        assert {item["generation"]["wait_reason"] for item in items} == {"paused"}
        after = api.post(f"{BATCHES}/{told['id']}/resume", format="json").json()
        assert not after["paused"]
        assert set(Generation.objects.values_list("not_before", flat=True)) == {None}

    def test_keeps_what_comes_back_from_the_provider(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 1})
        row = Generation.objects.get()
        Generation.objects.update(status=Status.PROCESSING)
        api.post(f"{BATCHES}/{told['id']}/pause", format="json")
        Generation.objects.update(status=Status.PENDING)

        recover.tick()

        row.refresh_from_db()
        assert row.not_before == row.queue_until

    def test_lets_what_somebody_else_wants_go_on(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 2})
        other = made(api, {**text, "variations": 1})

        api.post(f"{BATCHES}/{told['id']}/pause", format="json")

        waits = [item["generation"]["wait_reason"] for item in items_of(api, told)]
        assert waits == ["no_account", "paused"]
        api.post(f"{BATCHES}/{other['id']}/pause", format="json")
        assert items_of(api, told)[0]["generation"]["wait_reason"] == "paused"
        api.post(f"{BATCHES}/{told['id']}/resume", format="json")
        waits = [item["generation"]["wait_reason"] for item in items_of(api, told)]
        assert waits == ["no_account", "no_account"]

    def test_keeps_what_is_made_anew_meanwhile(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        ids = [item["generation"]["id"] for item in items_of(api, told)]
        end(Status.FAILED, ids[:1], "provider_failed")
        api.post(f"{BATCHES}/{told['id']}/pause", format="json")

        assert api.post(f"{BATCHES}/{told['id']}/retry", format="json").status_code == 202
        end(Status.COMPLETED, ids[1:2])
        assert api.post(f"{BATCHES}/{told['id']}/items/text-v1/regenerate", format="json").status_code == 202
        end(Status.FAILED, ids[2:], "provider_failed")
        assert api.post(f"{GENERATIONS}/{ids[2]}/retry", format="json").status_code == 202

        items = items_of(api, told)
        assert {item["generation"]["wait_reason"] for item in items} == {"paused"}
        assert not {item["generation"]["id"] for item in items} & set(ids)

    def test_keeps_nothing_that_another_batch_asks_for(self, api: APIClient, text: Body) -> None:
        told = made(api, {**text, "variations": 2})
        api.post(f"{BATCHES}/{told['id']}/pause", format="json")

        made(api, {**text, "variations": 1})

        recover.tick()
        waits = [item["generation"]["wait_reason"] for item in items_of(api, told)]
        assert waits == ["no_account", "paused"]

    def test_is_for_what_has_not_ended(self, api: APIClient, text: Body) -> None:
        told = made(api, text)
        api.post(f"{BATCHES}/{told['id']}/cancel", format="json")

        assert_problem(api.post(f"{BATCHES}/{told['id']}/pause", format="json"), 409, "already_ended")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", ""), ("get", "/items"), ("post", "/cancel"), ("post", "/pause"), ("post", "/resume"),
        ("post", "/retry"), ("post", "/items/text-v0/regenerate"),
    ],
)  # fmt: skip
def test_is_nobodys_else(api: APIClient, client_of: ClientOf, method: str, path: str) -> None:
    item = BatchItemFactory.create()
    for batch_id in (item.batch_id, uuid4()):
        reply = getattr(api, method)(f"{BATCHES}/{batch_id}{path}", format="json")
        assert_problem(reply, 404, "not_found")
    item.refresh_from_db()
    assert item.generation.status == Status.PENDING
