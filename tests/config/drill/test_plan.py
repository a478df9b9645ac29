"""What the drill asks and strikes follows from its seed alone."""

from __future__ import annotations

from collections import Counter

import pytest

from config.drill.forms import BAD_DAY, LONG, SHORT, Form, Kind
from config.drill.plan import LOST, beyond, marker, strikes, wishes
from providers.sandbox.faults import checked_rates, markers

SEEDS = range(20)
forms = pytest.mark.parametrize("form", [SHORT, LONG], ids=lambda form: form.name)


@forms
def test_is_the_same_for_the_same_seed_and_another_for_another(form: Form) -> None:
    assert wishes(form, 7) == wishes(form, 7)
    assert strikes(form, 7) == strikes(form, 7)
    assert wishes(form, 7) != wishes(form, 8)
    assert strikes(form, 7) != strikes(form, 8)


@forms
def test_asks_for_as_many_as_the_form_says_each_only_once_but_for_its_duplicates(form: Form) -> None:
    for seed in SEEDS:
        asked = wishes(form, seed)
        assert len({wish.body["params"]["prompt"] for wish in asked}) == len(asked) == form.generations
        copies = Counter(wish.copies for wish in asked)
        assert copies == {1: form.generations - form.duplicates, 2: form.duplicates}
        assert {wish.person for wish in asked} == set(range(form.people))
        assert {wish.body["provider_id"] for wish in asked} == {"modelslab", "pixverse"}


def test_has_a_fifth_of_duplicates_among_the_requests() -> None:
    for form in (SHORT, LONG):
        assert form.duplicates / (form.generations + form.duplicates) == 0.2


@forms
def test_asks_evenly_and_in_order(form: Form) -> None:
    times = [wish.at for wish in wishes(form, 3)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= form.seconds
    assert sum(at < form.seconds / 2 for at in times) == pytest.approx(form.generations / 2, abs=1)


@forms
def test_names_each_fault_of_a_bad_day_once_and_early(form: Form) -> None:
    for seed in SEEDS:
        early = wishes(form, seed)[: form.generations // 2]
        named = [found.name for wish in early for found in markers(wish.body["params"]["prompt"])]
        for fault in BAD_DAY:
            assert named.count(fault) == 1 + (form.lost_for_good if fault == "accept_then_drop" else 0)
        assert sum(LOST in wish.body["params"]["prompt"] for wish in early) == form.lost_for_good


def test_meets_a_named_fault_in_the_first_attempt_only() -> None:
    assert [(found.name, found.times) for found in markers(marker("429"))] == [("429", 1)]


def test_has_the_rates_of_a_bad_day() -> None:
    assert checked_rates(BAD_DAY) == BAD_DAY
    assert sum(BAD_DAY.values()) == pytest.approx(0.22)


@forms
def test_strikes_each_kind_as_often_as_the_form_says_and_in_its_time(form: Form) -> None:
    for seed in SEEDS:
        planned = strikes(form, seed)
        assert Counter(one.kind for one in planned) == form.strikes
        assert [one.at for one in planned] == sorted(one.at for one in planned)
        assert form.first_strike <= planned[0].at
        assert planned[-1].at <= form.last_strike


def test_strikes_every_kind_there_is_in_both_forms() -> None:
    assert set(SHORT.strikes) == set(LONG.strikes) == set(Kind)
    assert min(LONG.strikes.values()) >= 2


def test_spreads_each_kind_over_the_time() -> None:
    middle = (LONG.first_strike + LONG.last_strike) / 2
    for seed in SEEDS:
        for kind, times in LONG.strikes.items():
            early = sum(one.at < middle for one in strikes(LONG, seed) if one.kind == kind)
            assert 0 < early < times + (times == 1), (kind, seed)


@forms
def test_hits_the_dispatcher_first_and_others_too(form: Form) -> None:
    for seed in SEEDS:
        for kind in (Kind.WORKER_KILLED, Kind.CHILD_KILLED):
            hit = [one.target for one in strikes(form, seed) if one.kind == kind]
            assert hit[0] == "worker-dispatch"
            assert len(set(hit)) > 1


@forms
def test_keeps_the_order_of_the_times(form: Form) -> None:
    times = form.times
    assert times["lease"] < form.sending_lease <= times["image_deadline"] <= times["video_deadline"]
    assert times["video_deadline"] < form.never_seconds, "a job that never finishes meets its deadline"
    assert form.never_seconds + times["submit_timeout"] < times["submission_limit"], "it ends before its slot is free"
    assert form.slow_submit < times["submit_timeout"]
    assert times["download_idle"] < times["download_timeout"] < times["collect_ttl"]


def test_makes_requests_beyond_the_plan_that_come_first() -> None:
    wish = beyond(7, 61, 3.0, marker("429"))
    assert (wish.number, wish.at, wish.copies, wish.body["priority"]) == (61, 3.0, 1, 9)
    assert marker("429") in wish.body["params"]["prompt"]
