"""Forty raters at once against one server process on loopback: exactly k per item, no error, how long a save takes.

    python -m tests.benchmarks.rating_load [--postgres] [--raters 40] [--items 40] [--k 10] [--think 2.0]

Each rater thinks `think` seconds on average before an answer (people take longer). Screens are as large as real ones.
The load itself runs on the same cores as the server. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import typer
from sqlalchemy import Engine, text

from eval.rating.people import invite
from eval.rating.store import open_studies
from eval.rating.studies import StudySettings, create_study, launch
from tests.support.eval.studies import simple_heads
from tests.support.eval.web_server import free_port, start

OURS = {"sec-fetch-site": "same-origin", "hx-request": "true"}
ITEM = re.compile(r'action="/rate/([\w-]{16})/(?:pattern|skip)"')


class Rater:
    """One scripted browser; httpx would not send Secure cookies over plain http, so cookies are carried by hand."""

    def __init__(self, client: httpx.AsyncClient, token: str, think: float) -> None:
        self.client, self.token, self.think = client, token, think
        self.cookie, self.times, self.errors = "", list[float](), list[str]()

    async def post(self, path: str, data: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post(path, data=data, headers=OURS | {"cookie": self.cookie})

    async def run(self) -> None:
        """Join, then rate until the finish page."""
        first = await self.client.get(f"/join/{self.token}")
        self.cookie = first.headers["set-cookie"].split(";")[0]
        joined = await self.post("/join")
        self.cookie = joined.headers["set-cookie"].split(";")[0]
        await self.post("/rate/instructions")
        page = (await self.client.get("/rate", headers={"cookie": self.cookie})).text
        waited = 0
        while "All done" not in page and waited < 40:
            found = ITEM.search(page)
            if found is None:  # others hold what is left
                waited += 1
                await asyncio.sleep(0.5)
                page = (await self.client.get("/rate", headers={"cookie": self.cookie})).text
                continue
            await asyncio.sleep(random.expovariate(1 / self.think))
            begin = time.perf_counter()
            answer = await self.post(f"/rate/{found[1]}", {"pattern": "yes", "plausible": "yes", "note": "n"})
            self.times.append(time.perf_counter() - begin)
            if answer.status_code != 200:
                self.errors.append(f"{answer.status_code} {answer.text[:80]}")
            page = answer.text


async def _all(base: str, tokens: list[str], think: float) -> list[Rater]:
    limits = httpx.Limits(max_connections=len(tokens))
    async with httpx.AsyncClient(base_url=base, timeout=30, limits=limits) as client:
        raters = [Rater(client, token, think) for token in tokens]
        await asyncio.gather(*(rater.run() for rater in raters))
        return raters


def measure(url: str, *, raters: int, items: int, k: int, think: float) -> dict[str, object]:
    """Run the load and check the database afterwards."""
    engine = open_studies(url)
    study = _study(engine, items, k)
    tokens = [invite(engine, study_id=study)[1] for _ in range(raters)]
    port = free_port()
    server = start(url, port)
    begin, own, served = time.perf_counter(), time.process_time(), _cpu_seconds(server.pid)
    try:
        done = asyncio.run(_all(f"http://127.0.0.1:{port}", tokens, think))
        served = _cpu_seconds(server.pid) - served
    finally:
        server.terminate()
        server.wait(20)
    times = sorted(t for rater in done for t in rater.times)
    own = time.process_time() - own
    return {
        "database": engine.dialect.name,
        "raters": raters,
        "saves": len(times),
        "seconds": round(time.perf_counter() - begin, 1),
        "saves_a_second": round(len(times) / (time.perf_counter() - begin), 1),
        "server_cpu_ms_a_save": round(1000 * served / len(times), 1),  # joining and first pages included
        "client_cpu_ms_a_save": round(1000 * own / len(times), 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "save_ms": {f"p{p}": round(1000 * times[int(len(times) * p / 100) - 1], 1) for p in (50, 95, 99)},
        "errors": [error for rater in done for error in rater.errors],
        "answers_per_item": sorted(_per_item(engine, study)),
    }


def _study(engine: Engine, items: int, k: int) -> int:
    """A launched study whose screens are as large as real ones: 30 rows of 5 targets."""
    chance = random.Random(5)

    def token() -> str:
        return " " + "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9)))

    heads = [
        replace(head, rows=tuple({"source": token(), "targets": [token() for _ in range(5)]} for _ in range(30)))
        for head in simple_heads(items)
    ]
    settings = StudySettings(practice=0, attention=0, control_share=0.0, pattern_first=False)
    study = create_study(engine, name="load", heads=heads, k=k, seed=5, settings=settings)
    launch(engine, study)
    return study


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _per_item(engine: Engine, study: int) -> set[tuple[int, int]]:
    sql = "SELECT count(*), count(DISTINCT rater_id) FROM ratings WHERE counted AND study_id = :s GROUP BY item_id"
    with engine.connect() as connection:
        return {(int(n), int(distinct)) for n, distinct in connection.execute(text(sql), {"s": study})}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", action="store_true")
    for name, default in (("raters", 40), ("items", 40), ("k", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--think", type=float, default=2.0)
    chosen = parser.parse_args()
    options = {name: getattr(chosen, name) for name in ("raters", "items", "k", "think")}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.postgres:
            import pgserver

            server = pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
            typer.echo(json.dumps(measure(server.get_uri(), **options)))
            server.cleanup()
        else:
            typer.echo(json.dumps(measure(str(Path(folder) / "load.sqlite"), **options)))


if __name__ == "__main__":
    main()
