"""Batches in a whole house: a worker that dies in the middle of one, two users' at once, what fails and is retried."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from accounts import credits
from accounts.models import Price, Wallet
from generations.lifecycle import Status
from generations.models import BatchItem, Export, Generation, Submission
from generations.reports import audit
from tests.factories import LibraryItemFactory
from tests.house.world import House, Person

BATCHES = "/api/v1/batches"
PRICE = 10
SIZES = {"instagram_story": ("jpg", (1080, 1920)), "shopee": ("jpg", (1000, 1000))}
"""Of the formats that are chosen."""


def batch(person: Person, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for one that must be accepted."""
    common = {"provider_id": "modelslab", "operation_type": "text_to_image"}
    reply = person.call("POST", BATCHES, json={**common, **body})
    assert reply.status_code == 202, reply.text
    told: dict[str, Any] = reply.json()
    return told


def look(person: Person, told: dict[str, Any]) -> dict[str, Any]:
    """What the API tells about it now."""
    now: dict[str, Any] = person.call("GET", f"{BATCHES}/{told['id']}").json()
    return now


def gallery(person: Person, items: int, variations: int, **more: Any) -> dict[str, Any]:
    """So many library items of the person's, in so many variations each, as a body."""
    rows = [LibraryItemFactory.create(owner=person.user, prompt=f"pose {n}") for n in range(items)]
    return {
        "mode": "gallery",
        "params": {"prompt": "a dancer", "width": 264, "height": 264},
        "items": [{"library_item": row.pk, "variations": variations} for row in rows],
        **more,
    }


def rich(person: Person) -> Person:
    """With credits, where pictures cost some."""
    Price.objects.get_or_create(
        provider_id="modelslab", operation_type="text_to_image", model="", defaults={"credits": PRICE}
    )
    credits.grant(person.user.pk, 1000, reason="for a test", actor="test")
    return person


def downloaded(person: Person, told: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The pixel size of each picture in the batch's ZIP, by its name."""
    reply = person.call("GET", f"{BATCHES}/{told['id']}/zip")
    assert reply.status_code == 200, reply.text
    sizes = {}
    with zipfile.ZipFile(io.BytesIO(reply.content)) as packed:
        assert packed.testzip() is None
        for name in packed.namelist():
            with Image.open(packed.open(name)) as picture:
                sizes[name] = picture.size
    return sizes


def completed(house: House, person: Person, told: dict[str, Any]) -> None:
    house.wait(lambda: look(person, told)["closed_at"] is not None, "the batch's end")
    house.wait_for_the_end()


def test_worker_killed_mid_batch(house: House) -> None:
    """Requirement 31: of 12, with 5 done, exactly 7 are made; each is asked for once."""
    house.account("modelslab", limit=1)
    person = rich(house.person())
    body = gallery(person, 3, 4)
    sixth = f"pose-{body['items'][1]['library_item']}-v1"
    slow = {"prompt": "a dancer, its sender dies [[fault:slow_submit:3]]"}
    told = batch(person, {**body, "name": "Dancers", "overrides": {sixth: slow}, "export_formats": list(SIZES)})
    house.wait(lambda: look(person, told)["counts"]["completed"] == 5, "five pictures")
    house.wait(lambda: any("its sender dies" in work["prompt"] for work in house.sandbox.works()), "the sixth's work")
    assert look(person, told)["counts"]["completed"] == 5

    house.kill("worker-dispatch")
    completed(house, person, told)

    after = look(person, told)
    assert (after["status"], after["counts"]["completed"], after["progress"]) == ("completed", 12, 100)
    items = person.call("GET", f"{BATCHES}/{told['id']}/items").json()["results"]
    assert len({item["variation_key"] for item in items}) == 12
    assert Submission.objects.count() == 12
    asked = Counter(call["request_id"] for call in house.sandbox.record(kind="submit"))
    assert asked == {str(pk): 1 for pk in Submission.objects.values_list("pk", flat=True)}
    wallet = Wallet.objects.get(user=person.user)
    assert (wallet.available, wallet.held) == (1000 - 12 * PRICE, 0)
    house.wait(lambda: Export.objects.filter(state=Export.State.DONE).count() == 24, "the exports")
    keys = {item["variation_key"] for item in items}
    assert downloaded(person, told) == {
        f"Dancers/{key}_{name}.{kind}": size for key in keys for name, (kind, size) in SIZES.items()
    }
    assert audit.run(files=True) == []


def test_two_workers_on_two_users_batches(house: House) -> None:
    for limit in (3, 2):
        house.account("modelslab", limit=limit)
    people = [rich(house.person()) for _ in range(2)]
    bodies = [gallery(person, 2, 4) for person in people]
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(batch, people, bodies))

    for person, one in zip(people, told, strict=True):
        completed(house, person, one)

    for person, one in zip(people, told, strict=True):
        after = look(person, one)
        assert (after["status"], after["counts"]["completed"], after["reused"]) == ("completed", 8, 0)
        assert after["credits"] == {"charged": 8 * PRICE, "held": 0, "released": 0, "refunded": 0}
        wallet = Wallet.objects.get(user=person.user)
        assert (wallet.available, wallet.held) == (1000 - 8 * PRICE, 0)
        assert person.call("GET", f"{BATCHES}/{told[people.index(person) - 1]['id']}").status_code == 404
    assert len(house.sandbox.record(kind="submit")) == 16
    house.wait(audit.services_are_up, "the tick")
    assert audit.run(files=True) == []


def test_is_completed_by_a_retry_of_the_three_that_failed_for_good(house: House) -> None:
    house.account("modelslab", limit=4)
    person = rich(house.person())
    body = gallery(person, 3, 4)
    bad = [f"pose-{item['library_item']}-v0" for item in body["items"]]
    refused = {"prompt": "a dancer who is refused once [[fault:moderated_input*1]]"}
    told = batch(person, {**body, "overrides": {key: {"prompt": f"{refused['prompt']} {key}"} for key in bad}})
    completed(house, person, told)
    after = look(person, told)
    assert (after["status"], after["counts"]["completed"], after["counts"]["failed"]) == ("partial", 9, 3)
    assert after["credits"] == {"charged": 9 * PRICE, "held": 0, "released": 3 * PRICE, "refunded": 0}
    kept = set(BatchItem.objects.filter(generation__status=Status.COMPLETED).values_list("generation", flat=True))

    assert person.call("POST", f"{BATCHES}/{told['id']}/retry").status_code == 202
    completed(house, person, told)

    after = look(person, told)
    assert (after["status"], after["counts"]["completed"]) == ("completed", 12)
    assert after["credits"] == {"charged": 12 * PRICE, "held": 0, "released": 3 * PRICE, "refunded": 0}
    assert kept < set(BatchItem.objects.values_list("generation", flat=True))
    assert Generation.objects.count() == 15
    assert len(house.sandbox.record(kind="submit")) == 15
    assert audit.run(files=True) == []
