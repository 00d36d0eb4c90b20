"""Limits of a run: in flight, per minute, budgets; with real threads and a short minute."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.errors import BudgetSpent
from agent.llm.limits import RunLimits
from agent.llm.options import ModelOptions, cache_wanted, checked, parse_price
from agent.llm.token_usage import Usage, count, metered
from maps_engine.errors import UserMistake


def take(limits, used=Usage(10, 5), *, characters=20, most=10, price=None, hold=0.0):
    with limits.request(characters, most, price) as ticket:
        time.sleep(hold)
        return ticket.settle(used)


def test_requests_in_flight_are_bounded():
    limits, now, most, lock = RunLimits(in_flight=2), 0, 0, threading.Lock()

    def one(_):
        nonlocal now, most
        with limits.request(10, 10):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(12)))
    assert most == 2
    assert limits.requests == 12


def test_requests_per_minute():
    limits = RunLimits(requests_per_minute=3, window=0.3)
    started = time.monotonic()
    for _ in range(7):
        take(limits)
    assert 0.6 <= time.monotonic() - started < 2


def test_tokens_per_minute():
    limits = RunLimits(tokens_per_minute=50, window=0.3)
    started = time.monotonic()
    for _ in range(6):  # 15 tokens each, up to 18 reserved
        take(limits)
    assert time.monotonic() - started >= 0.3
    big = RunLimits(tokens_per_minute=5, window=0.3)
    take(big)  # more than a minute holds: sent when nothing else was


def test_a_pause_holds_everybody():
    limits = RunLimits()
    started = time.monotonic()  # before the pause begins: a busy machine may stop this thread in between
    limits.pause(0.2)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: take(limits), range(3)))
    assert 0.2 <= time.monotonic() - started < 1


def test_the_token_budget_is_never_passed():
    limits = RunLimits(token_budget=100)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: _outcome(limits), range(40)))
    assert limits.spent.tokens <= 100
    assert results.count("taken") == limits.spent.tokens // 15 >= 5
    with pytest.raises(BudgetSpent, match=r"token budget.*at most 100.*--token-budget"):
        take(limits)


def _outcome(limits):
    try:
        take(limits, hold=0.005)
    except BudgetSpent:
        return "stopped"
    return "taken"


def test_the_money_budget_is_never_passed():
    limits, price = RunLimits(money_budget=1.0), (10_000.0, 20_000.0)
    for _ in range(3):
        take(limits, price=price)
    assert limits.money == pytest.approx(0.6)
    limits.money_budget = 0.7
    with pytest.raises(BudgetSpent, match=r"money budget.*0\.6000 spent.*--budget"):
        take(limits, price=price)
    assert limits.money == pytest.approx(limits.spent.cost(price))


def test_what_is_not_reported_is_estimated_and_said_so():
    limits = RunLimits()
    with limits.request(1000, 50) as ticket:
        used = ticket.settle(None, characters=40)
    assert (used.estimated, used.written) == (1, 17)
    assert 200 < used.read < 500
    assert limits.spent == used


def test_estimates_follow_what_is_reported():
    limits = RunLimits()
    for _ in range(8):
        take(limits, Usage(100, 5), characters=1000)
    with limits.request(1000, 50) as ticket:
        assert 100 <= ticket.reserved.read <= 140


def test_a_request_that_fails_gives_its_place_back():
    limits = RunLimits(in_flight=1, token_budget=40)
    for _ in range(5):
        with pytest.raises(RuntimeError), limits.request(20, 10):
            raise RuntimeError
    assert limits.spent.tokens == 0
    take(limits)


def test_prices():
    assert parse_price("2.5,10") == (2.5, 10.0)
    assert parse_price(None) is parse_price(" ") is None
    for text in ("3", "a,b", "1,2,3", "-1,2", "nan,1", "inf,1"):
        with pytest.raises(UserMistake):
            parse_price(text)
    assert Usage(2_000_000, 500_000).cost((2.5, 10)) == 10.0


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(mode="xml"),  # type: ignore[arg-type]
        ModelOptions(money_budget=1.0),
        ModelOptions(in_flight=0),
        ModelOptions(tool_calls=-1),
        ModelOptions(token_budget=0),
        ModelOptions(max_tokens=0),
        ModelOptions(tokens_per_minute=1000),
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(UserMistake):
        checked(options)


def test_who_wants_a_cache(monkeypatch):
    monkeypatch.delenv("HEADSCRIBE_NO_REPLY_CACHE", raising=False)
    assert cache_wanted(False)
    assert not cache_wanted(True)
    monkeypatch.setenv("HEADSCRIBE_NO_REPLY_CACHE", "1")
    assert not cache_wanted(False)
    monkeypatch.setenv("HEADSCRIBE_NO_REPLY_CACHE", "0")
    assert cache_wanted(False)


def test_a_meter_counts_its_own_work_only():
    count(Usage(7, 7))
    result, usage = metered(lambda: (count(Usage(1, 2)), count(Usage(3, 4, 1)), "done")[-1])
    assert (result, usage) == ("done", Usage(4, 6, 1))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: metered(lambda: count(Usage(i, 1)))[1], range(8)))
    assert found == [Usage(i, 1) for i in range(8)]
