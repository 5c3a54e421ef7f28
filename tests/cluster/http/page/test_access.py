"""Who a browser is: its token goes to the service, where rights and quotas are those of every other client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from longtake.client import Client
from longtake.client.credentials import Credentials
from tests.cluster.http.page.cell import PROMPT, TOKENS, Browser, PageCell, page_cell, tenants_file


@pytest.fixture
def sections(tmp_path: Path) -> Iterator[Mapping[str, Mapping[str, object]]]:
    yield {"auth": {"tenants": str(tenants_file(tmp_path))}}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name * 4}"}


async def prompts_for(http: httpx.AsyncClient, name: str) -> list[str]:
    answer = await http.get("/api/sessions", headers=bearer(name))
    assert answer.status_code == 200
    return [session["prompt"] for session in answer.json()["sessions"]]


async def refusal(cell: PageCell, **first: object) -> tuple[object, str]:
    """How a first frame is refused."""
    async with cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(**first)
        message = await browser.hear()
        return message["code"], str(message["sentence"])


async def test_who_shows_nothing_or_something_wrong_is_refused_and_told_how_to_do_better(
    sections: Mapping[str, Mapping[str, object]],
) -> None:
    async with page_cell(sections) as cell, httpx.AsyncClient(base_url=cell.url) as http:
        assert (await http.get("/")).status_code == 200, "the page itself is for all, it tells nothing"
        for path in ("/api/model", "/api/sessions"):
            for headers in ({}, bearer("eve"), {"authorization": "Basic YTpi"}):
                answer = await http.get(path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
                assert answer.headers["www-authenticate"] == "Bearer"
        for token in ("", "eve" * 4):
            code, _ = await refusal(cell, type="open", prompt=PROMPT, token=token)
            assert code == "UNAUTHENTICATED"
        code, sentence = await refusal(cell, type="open", prompt=PROMPT, token="victor" * 4)
        assert (code, sentence) == ("PERMISSION_DENIED", "Stream: a viewer may not; allowed: client or operator")


async def test_everybody_sees_and_watches_the_streams_of_the_own_tenant_and_an_operator_all(
    sections: Mapping[str, Mapping[str, object]],
) -> None:
    async with page_cell(sections) as cell, httpx.AsyncClient(base_url=cell.url) as http, cell.browser() as socket:
        alice = Browser(socket)
        await alice.say(type="open", prompt=PROMPT, token="alice" * 4)
        opened = await alice.upto("opened")
        seen = {name: await prompts_for(http, name) for name in TOKENS}
        assert seen == {"alice": [PROMPT], "victor": [PROMPT], "bob": [], "otto": [PROMPT]}
        code, _ = await refusal(cell, type="watch", session_id=opened["session_id"], token="bob" * 4)
        assert code == "NOT_FOUND"
        for name in ("victor", "otto"):
            async with cell.browser() as watching:
                await Browser(watching).say(type="watch", session_id=opened["session_id"], token=name * 4)
                assert (await Browser(watching).upto("opened"))["session_id"] == opened["session_id"]


async def test_a_quota_counts_streams_of_the_page_and_of_other_clients_together(
    sections: Mapping[str, Mapping[str, object]],
) -> None:
    credentials = Credentials(token="bob" * 4)
    async with (
        page_cell(sections) as cell,
        Client(cell.target, credentials=credentials) as client,
        client.stream(PROMPT),
    ):
        code, sentence = await refusal(cell, type="open", prompt=PROMPT, token="bob" * 4)
    assert (code, sentence) == (
        "RESOURCE_EXHAUSTED",
        "The tenant's quota of streams is used up: 1 of 1 are open. Try again in 5 s.",
    )
