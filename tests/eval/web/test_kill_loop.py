"""kill -9 in a loop while raters save: every answer that was confirmed is there."""

from __future__ import annotations

import random
import re
import threading
import time
from pathlib import Path

import httpx
import pytest

from eval.rating.answers import final_ratings
from eval.rating.people import invite
from eval.rating.progress import progress
from eval.rating.store import open_studies
from tests.support.eval.studies import launched
from tests.support.eval.web_server import free_port, start

OURS = {"sec-fetch-site": "same-origin", "hx-request": "true"}
ITEM = re.compile(r'action="/rate/([\w-]{16})/skip"')


def _patiently(
    client: httpx.Client, method: str, path: str, stop: threading.Event, **options: object
) -> httpx.Response:
    while not stop.is_set():
        try:
            return client.request(method, path, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            time.sleep(0.05)
    raise InterruptedError


def _rate(base: str, token: str, name: str, confirmed: dict[tuple[str, str], str], stop: threading.Event) -> None:
    """Save again and again; an answer counts as confirmed once the server has answered 200."""
    rng = random.Random(name)
    with httpx.Client(base_url=base, timeout=5) as client:
        try:
            first = _patiently(client, "GET", f"/join/{token}", stop)
            cookie = {"cookie": first.headers["set-cookie"].split(";")[0]} | OURS
            joined = client.post("/join", headers=cookie)
            headers = {"cookie": joined.headers["set-cookie"].split(";")[0]} | OURS
            _patiently(client, "POST", "/rate/instructions", stop, headers=headers)
            page = _patiently(client, "GET", "/rate", stop, headers=headers).text
            while (found := ITEM.search(page)) is not None:
                said = rng.choice(("yes", "partly", "no"))
                data = {"pattern": "yes", "plausible": said}
                answer = _patiently(client, "POST", f"/rate/{found[1]}", stop, headers=headers, data=data)
                assert answer.status_code == 200
                confirmed[name, found[1]] = said
                page = answer.text
        except InterruptedError:
            return


@pytest.mark.slow
def test_killing_the_server_in_a_loop_loses_no_confirmed_answer(tmp_path: Path) -> None:
    database = str(tmp_path / "kill.sqlite")
    engine = open_studies(database)
    study = launched(engine, 150, k=4, pattern_first=False)
    invited = [invite(engine, study_id=study) for _ in range(6)]
    port, stop = free_port(), threading.Event()
    server = start(database, port)
    confirmed: dict[tuple[str, str], str] = {}
    base = f"http://127.0.0.1:{port}"
    threads = [threading.Thread(target=_rate, args=(base, t, n, confirmed, stop)) for n, t in invited]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 3
    while len(confirmed) < 6 and time.monotonic() < deadline + 20:
        time.sleep(0.1)
    for _ in range(6):
        time.sleep(random.uniform(0.2, 0.9))
        server.kill()
        server.wait()
        server = start(database, port)
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join(30)
    server.terminate()
    server.wait(20)
    stored = {(r.rater, r.item): r.plausible for r in final_ratings(engine, study)}
    assert len(confirmed) > 20
    assert {key: said for key, said in confirmed.items() if stored.get(key) != said} == {}
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert progress(engine, study).done == len(stored)
    engine.dispose()
