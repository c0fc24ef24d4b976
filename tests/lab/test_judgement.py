"""Judgement: what was observed decides, at the moment it can be decided, and the figure is the measured one."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from bridge.lab.judgement import Judgement, Observed, Reading, Verdict, judge
from bridge.lab.scenario_file import Duration, Expectation, Pace, Run, Subject
from bridge.lab.telegrams import Telegram

UTC_MS = 1_783_227_967_000
FIVE_S = Duration(seconds=5)
REDUCED = Expectation(Subject.POWER_OF_ALL, "power", high=20_000, within=FIVE_S, hold=Duration(seconds=2))
KEPT = Expectation(Subject.POWER_OF_ALL, "power", low=15_000, high=20_000, hold=FIVE_S)
ANSWERED = Expectation(Subject.ANSWER, "answer", sign="positive", within=FIVE_S)
MIRRORED = Expectation(Subject.POINT, "point", number=201, low=20_000, high=20_000, within=FIVE_S)
UNCHANGED = replace(MIRRORED, within=None, hold=FIVE_S)


def telegram(at_s: float, *, type_id: int = 36, cause: int = 3, ioa: int = 201, value: float = 20_000.0) -> Telegram:
    return Telegram(at_s, False, type_id, cause, False, False, 0, 1, ioa, value, 0, UTC_MS)


def observed(*telegrams: Telegram, powers: dict[float, float] | None = None, from_units: bool = True) -> Observed:
    seen = Observed(deque(telegrams), deque([(0.0, True)]), from_units=from_units)
    seen.readings.extend(Reading(at_s, (power_w / 2, power_w / 2)) for at_s, power_w in (powers or {}).items())
    return seen


def judged(expected: Expectation, seen: Observed, now_s: float) -> Judgement:
    """Judged with a step done at 10 s."""
    return judge(expected, 10.0, UTC_MS, now_s, seen, Pace(), Run.ONLY)


def test_a_reduction_passes_once_it_has_held_and_its_time_is_that_of_its_beginning() -> None:
    seen = observed(powers={9.9: 50_000, 11.0: 30_000, 11.5: 19_000, 12.5: 18_000})
    assert judged(REDUCED, seen, 12.5).verdict is Verdict.PENDING
    seen.readings.append(Reading(13.6, (9_000.0, 9_000.0)))
    assert judged(REDUCED, seen, 13.6) == Judgement(Verdict.PASSED, "18.00 kW to 19.00 kW after 1.5 s, held for 2 s")


def test_what_was_seen_just_before_in_the_same_moment_is_not_the_measured_value() -> None:
    seen = observed(telegram(11.0, value=56_000.0), telegram(11.0, value=20_000.0))
    assert judged(MIRRORED, seen, 11.1) == Judgement(Verdict.PASSED, "M_ME_TF_1 201 = 20000 after 1.0 s")


def test_a_unit_charges_while_it_draws_more_than_the_end_of_a_ramp() -> None:
    one_of_two = replace(KEPT, subject=Subject.CHARGING_UNITS, low=1, high=1)
    seen = observed()
    seen.readings.extend(Reading(at_s, (6_000.0, 20.0)) for at_s in (9.9, 12.0, 15.1))
    assert judged(one_of_two, seen, 15.1) == Judgement(Verdict.PASSED, "1 charge, held for 5 s")
    seen.readings.append(Reading(15.2, (6_000.0, 6_000.0)))
    assert judged(replace(one_of_two, hold=Duration(seconds=6)), seen, 15.3).verdict is Verdict.FAILED


def test_a_reduction_that_comes_too_late_fails_with_what_was_drawn() -> None:
    seen = observed(powers={9.9: 50_000, 14.9: 45_000, 15.1: 19_000})
    assert judged(REDUCED, seen, 15.1) == Judgement(Verdict.FAILED, "45.00 kW after 4.9 s")


def test_a_reduction_that_does_not_last_counts_from_its_last_beginning() -> None:
    seen = observed(powers={9.9: 50_000, 11.0: 19_000, 12.0: 30_000, 14.0: 19_000, 16.0: 19_000})
    assert judged(REDUCED, seen, 16.0).measured == "19.00 kW after 4.0 s, held for 2 s"
    seen.readings.insert(5, Reading(15.5, (15_000.0, 15_000.0)))
    assert judged(REDUCED, seen, 16.0).verdict is Verdict.FAILED


def test_what_must_hold_must_hold_from_the_first_moment_to_the_last() -> None:
    steady = observed(powers={9.9: 20_000, 12.0: 19_500, 15.0: 20_000})
    assert judged(KEPT, steady, 15.0) == Judgement(Verdict.PASSED, "19.50 kW to 20.00 kW, held for 5 s")
    assert judged(KEPT, steady, 14.0).verdict is Verdict.PASSED
    dropped = observed(powers={9.9: 20_000, 14.9: 10_000})
    assert judged(KEPT, dropped, 14.9).verdict is Verdict.FAILED
    never = observed(powers={9.9: 30_000})
    assert judged(KEPT, never, 10.5).verdict is Verdict.FAILED


def test_readings_that_stop_prove_nothing() -> None:
    seen = observed(powers={9.9: 20_000, 12.0: 20_000})
    assert judged(KEPT, seen, 15.0).verdict is Verdict.PENDING
    assert judged(KEPT, seen, 18.5).verdict is Verdict.FAILED
    assert judged(KEPT, observed(), 13.5) == Judgement(Verdict.FAILED, "nothing seen in 3.5 s")


def test_one_charger_is_judged_by_its_own_power() -> None:
    one = replace(REDUCED, subject=Subject.POWER_OF_CHARGER, number=1, hold=Duration())
    assert judged(one, observed(powers={10.5: 38_000}), 10.5).measured == "19.00 kW after 500 ms"
    assert judged(replace(one, number=7), observed(powers={16.0: 0}), 16.0).measured.startswith("no charger 7")


def test_power_that_only_the_bridge_reports_is_not_judged_while_its_link_is_broken() -> None:
    seen = observed(powers={9.9: 20_000}, from_units=False)
    assert judged(KEPT, seen, 15.0).verdict is Verdict.PASSED
    seen.link_broken = True
    assert judged(KEPT, seen, 15.0).verdict is Verdict.NOT_JUDGED
    assert judged(KEPT, replace(seen, from_units=True), 15.0).verdict is Verdict.PENDING


def test_power_that_only_the_bridge_reports_is_not_judged_from_before_it_reported_any() -> None:
    seen = observed(powers={11.0: 20_000}, from_units=False)
    assert judged(KEPT, seen, 16.0).verdict is Verdict.NOT_JUDGED
    assert judged(REDUCED, seen, 16.0).verdict is Verdict.PASSED


def test_an_answer_is_judged_by_its_sign_and_its_time() -> None:
    positive = telegram(10.003, type_id=50, cause=7, ioa=100)
    assert judged(ANSWERED, observed(positive), 10.1) == Judgement(
        Verdict.PASSED, "activation confirmation, positive, after 3 ms"
    )
    negative = replace(positive, negative=True)
    assert judged(ANSWERED, observed(negative), 10.1).verdict is Verdict.PENDING
    assert judged(ANSWERED, observed(negative), 15.1).verdict is Verdict.FAILED
    assert judged(replace(ANSWERED, sign="negative"), observed(negative), 10.1).verdict is Verdict.PASSED
    unknown = replace(negative, cause=47)
    assert judged(replace(ANSWERED, sign="negative"), observed(unknown), 15.1).verdict is Verdict.FAILED
    assert judged(ANSWERED, observed(replace(positive, at_s=9.0)), 15.1).measured == "nothing seen in 5.1 s"


def test_a_termination_is_seen_where_it_is_expected() -> None:
    terminated = Expectation(Subject.TERMINATION, "termination", within=FIVE_S)
    assert judged(terminated, observed(telegram(12.0, type_id=50, cause=10, ioa=100)), 12.0).measured == (
        "terminated after 2.0 s"
    )
    assert judged(terminated, observed(telegram(12.0, type_id=100, cause=10, ioa=0)), 15.1).verdict is Verdict.FAILED


def test_a_value_expected_within_a_time_must_arrive_after_the_step() -> None:
    assert judged(MIRRORED, observed(telegram(9.0)), 15.1).verdict is Verdict.FAILED
    assert judged(MIRRORED, observed(telegram(10.5)), 10.5).measured == "M_ME_TF_1 201 = 20000 after 500 ms"
    assert judged(MIRRORED, observed(replace(telegram(10.5), quality=0x80)), 15.1).measured == (
        "M_ME_TF_1 201 = 20000 quality 0x80 after 0.5 s"
    )


def test_a_value_expected_to_hold_may_be_the_one_from_before() -> None:
    assert judged(UNCHANGED, observed(telegram(9.0)), 15.0).verdict is Verdict.PASSED
    assert judged(UNCHANGED, observed(telegram(9.0), telegram(12.0, value=0.0)), 12.0).verdict is Verdict.FAILED
    assert judged(UNCHANGED, observed(), 10.1).verdict is Verdict.FAILED


def test_type_and_time_tag_are_judged_where_they_are_asked_for() -> None:
    strict = replace(MIRRORED, type_name="M_ME_TF_1", time_tag=True)
    assert judged(strict, observed(telegram(11.0)), 11.0).verdict is Verdict.PASSED
    assert judged(strict, observed(telegram(11.0, type_id=13)), 15.1).verdict is Verdict.FAILED
    old = replace(telegram(11.0), tag_utc_ms=UTC_MS - 60_000)
    assert judged(strict, observed(old), 15.1).verdict is Verdict.FAILED
    assert judged(strict, observed(replace(telegram(11.0), tag_valid=False)), 15.1).verdict is Verdict.FAILED


def test_a_link_is_judged_by_its_present_state() -> None:
    up = Expectation(Subject.LINK, "link", sign="up", within=FIVE_S)
    seen = observed()
    assert judged(up, seen, 10.0).verdict is Verdict.PASSED
    seen.link_changes.append((9.0, False))
    assert judged(up, seen, 11.0).verdict is Verdict.PENDING
    seen.link_changes.append((12.0, True))
    assert judged(up, seen, 12.0).measured == "link up after 2.0 s"
