"""Who may take a copy of a session, bring one and send one elsewhere; whose it is then, and what is written of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from longtake.client import Client
from longtake.client.credentials import Credentials
from tests.cluster.access.doors import House
from tests.cluster.frontend.carried import (
    OPTIONS,
    counting_cell,
    exported,
    in_parts,
    refused,
    resumed,
    stream_with,
    until,
)
from tests.cluster.frontend.reading import everything, segments
from tests.cluster.frontend.toy import Door, ToyCell


@asynccontextmanager
async def guarded(house: House) -> AsyncIterator[ToyCell]:
    tenancy = house.tenancy()
    try:
        async with counting_cell(door=Door(tenancy=tenancy)) as cell:
            yield cell
    finally:
        tenancy.audit.close()


def credentials(house: House, who: str) -> Credentials:
    return Credentials(token=house.tokens[who])


async def test_only_operators_hand_over_and_owners_may_take_a_copy(house: House) -> None:
    async with (
        guarded(house) as old,
        guarded(house) as new,
    ):

        def client(cell: ToyCell, who: str) -> Client:
            return Client(cell.target, credentials=credentials(house, who))

        async with (
            client(old, "acme client") as owner,
            client(old, "umbrella client") as stranger,
            client(old, "acme viewer") as viewer,
            client(old, "umbrella operator") as operator,
            client(new, "umbrella operator") as importer,
            client(new, "acme client") as heir,
            client(new, "umbrella client") as other,
            owner.stream("red", OPTIONS) as stream,
        ):
            events = await until(stream, 7)
            session = stream.opened.session_id
            data = await exported(owner, session)
            for who, code in ((stranger, "NOT_FOUND"), (viewer, "PERMISSION_DENIED")):
                with refused(code):
                    await exported(who, session)
            for who in (owner, stranger, viewer):
                with refused("PERMISSION_DENIED"):
                    await exported(who, session, hand_over=True)
                with refused("PERMISSION_DENIED"):
                    await who.hand_over(session, new.target, bytes(32))
                with refused("PERMISSION_DENIED"):
                    await who.import_session(in_parts(data))
            assert not any(each.is_frozen for each in old.engine.scheduler.cell.sessions.values())
            answer = await importer.import_session(operator.export_session(session, hand_over=True))
            assert (await heir.get_session(answer.session_id)).tenant == "acme", "whose it was"
            with refused("NOT_FOUND"):
                await resumed(other, answer.resume_token, 7)
            await operator.hand_over(session, new.target, answer.resume_token)
            events += await everything(stream)
        assert {one.index: one.data for one in segments(events)} == await stream_with(())
    lines = [(line["action"], line.get("session"), line["outcome"]) for line in house.audited()]
    for line in (("export", session, "OK"), ("import", answer.session_id, "OK"), ("hand_over", session, "OK")):
        assert line in lines
    assert ("export", session, "NOT_FOUND") in lines and ("resume", answer.session_id, "OK") in lines
    text = (house.folder / "audit.jsonl").read_bytes()
    assert answer.resume_token not in text and answer.resume_token.hex().encode() not in text


async def test_a_tenant_that_is_not_there_leaves_its_session_to_who_brings_it_and_quotas_hold(tmp_path: Path) -> None:
    house = House(tmp_path, quotas={"umbrella": "streams = 1"})
    async with counting_cell() as old, Client(old.target) as client, client.stream("red", OPTIONS) as stream:
        await until(stream, 5)
        data = await exported(client, stream.opened.session_id)  # of the tenant `default`
        async with (
            guarded(house) as new,
            Client(new.target, credentials=credentials(house, "umbrella operator")) as importer,
        ):
            answer = await importer.import_session(in_parts(data))
            assert (await importer.get_session(answer.session_id)).tenant == "umbrella"
            with refused("RESOURCE_EXHAUSTED"):
                await importer.import_session(in_parts(data))
            await importer.close_session(answer.session_id)
            await new.settled()
            again = await importer.import_session(in_parts(data))
            assert again.session_id != answer.session_id, "what has ended counts no more"
