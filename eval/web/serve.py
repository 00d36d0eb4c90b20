"""Starts the web app with uvicorn; refuses to be reachable from elsewhere without accounts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from eval.errors import NotAllowed
from eval.rating.store import open_studies
from eval.web.settings import LOOPBACK, Describe, WebSettings

if TYPE_CHECKING:
    from agent.pipeline.one_head import DescribedHead
    from agent.pipeline.workbench import Workbench


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def find_describer() -> Describe:
    """Describes heads as `label-heads` does with its defaults, imported at the first job.

    The model that was opened last stays open: the next head of it takes no loading.
    """
    opened: dict[str, Workbench] = {}

    def describe(model: str, layer: int, head: int) -> DescribedHead:
        from agent.pipeline.one_head import describe_on
        from agent.pipeline.request import DescribeRequest
        from agent.pipeline.workbench import open_workbench

        if model not in opened:
            opened.clear()
            opened[model] = open_workbench(DescribeRequest(model=model))
        return describe_on(opened[model], layer, head)

    return describe


def serve(
    *,
    database: str | None,
    host: str = "127.0.0.1",
    port: int = 8000,
    accounts: bool = False,
    open_browser: bool = False,
    allow_hosts: Iterable[str] = (),
    describe: Describe | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> None:
    """Run until stopped. Raises NotAllowed for a wide address without accounts."""
    import uvicorn

    from eval.web.app import create_app

    if not accounts and not is_loopback(host):
        raise NotAllowed(
            "without accounts everybody who reaches the app is the lead",
            got=f"--host {host}",
            expected="--host 127.0.0.1, or --accounts",
            next_step="Add --accounts and make a lead link with `rate-heads invite --lead NAME`.",
        )
    names = LOOPBACK | {name.lower() for name in allow_hosts}
    if accounts and not is_loopback(host) and host not in ("0.0.0.0", "::"):
        names |= {host.lower()}
    engine = open_studies(database)
    settings = WebSettings(
        engine, accounts=accounts, open_browser=open_browser, hosts=frozenset(names), describe=describe
    )
    announce(f"http://{host}:{port}")
    # No access log: it would write personal links to a file.
    uvicorn.run(create_app(settings), host=host, port=port, access_log=False, log_level="warning", proxy_headers=False)
