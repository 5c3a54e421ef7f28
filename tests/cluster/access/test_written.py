"""What is written of those who call: the audit log, and what no log ever holds."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from cluster.access.callers import new_token
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.events import RequestRefusedEvent, SegmentEvent
from tests.cluster.access.asking import ends, fork, open_one, open_with, refusal, upto_segments
from tests.cluster.access.doors import House, guarded_cell
from workers import lines

# --- what is written of it --------------------------------------------------------------------------------------------


async def test_the_audit_log_tells_who_did_what_to_which_session(house: House) -> None:
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        async with client.stream("red", StreamOptions(window=1)) as stream:
            session = stream.opened.session_id
            await stream.cue("blue")
            await stream.pause()
            await stream.play()
            await upto_segments(stream, 3)
            async with guarded.client("umbrella client") as other:
                await refusal(other.close_session(session))
                await refusal(fork(other, session))
            async with guarded.client("umbrella operator") as operator:
                await operator.close_session(session, 'no "quotes" needed')
            await ends(stream)
        async with Client(guarded.cell.target) as stranger:
            await refusal(stranger.list_sessions())
    assert [line["reason"] for line in house.audited() if "reason" in line] == ['no "quotes" needed']
    lines = [
        (line.get("tenant"), line.get("credential"), line["action"], line.get("session"), line["outcome"])
        for line in house.audited()
    ]
    me, they = ("acme", "token client"), ("umbrella", "token client")
    assert sorted(lines, key=str) == sorted(
        [
            (*me, "open", session, "OK"),
            (*me, "cue", session, "OK"),
            (*me, "pause", session, "OK"),
            (*me, "play", session, "OK"),
            (*they, "close", session, "NOT_FOUND"),
            (*they, "open", None, "NOT_FOUND"),
            ("umbrella", "token operator", "close", session, "OK"),
            (*me, "closed", session, "OK"),
            (None, None, "call", None, "UNAUTHENTICATED"),
        ],
        key=str,
    )
    for line in house.audited():
        assert line["peer"].startswith("ipv4:127.0.0.1:") and line["method"].startswith("/longtake.v1.")
        assert line["time"].endswith("+00:00")


async def test_neither_tokens_nor_prompts_are_in_any_log_or_answer_to_others(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    prompt, cue = "an unmistakable walrus", "a singular axolotl"
    wrong = new_token()
    with caplog.at_level(logging.DEBUG):
        async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
            async with client.stream(prompt, StreamOptions(window=1)) as stream:
                await stream.cue(cue)
                await stream.cue(CueAt(prompt="12345678901234567890"))
                await upto_segments(stream, 5)
            async with Client(guarded.cell.target, credentials=Credentials(token=wrong)) as stranger:
                await refusal(open_one(stranger, ""))
            await refusal(open_with(client, prompt + " \x00" + "x" * 5000))
            house.file.write_text(house.file.read_text() + f'\n[[tenants.acme.tokens]]\nid = "x"\nhash = "{wrong}"\n')
            await asyncio.sleep(0.2)
            await guarded.cell.settled()
    text = caplog.text + (house.folder / "audit.jsonl").read_text()
    assert "opened, seed" in text or "token client" in text
    for secret in (prompt, "walrus", cue, "axolotl", "12345678901234567890", wrong, *house.tokens.values()):
        assert secret not in text, secret


async def test_guesses_do_not_fill_the_disk(house: House) -> None:
    now_s = [1_800_000_000.0]
    async with guarded_cell(house, clock=lambda: now_s[0]) as guarded, Client(guarded.cell.target) as stranger:
        for _ in range(60):
            await refusal(stranger.get_model())
        now_s[0] += 1
        await refusal(stranger.get_model())
        assert guarded.refusals() == {"no_credentials": 61}
    lines = house.audited()
    assert len(lines) == 21 and lines[-1]["left_out_before"] == 40


@pytest.mark.parametrize("required", [True, False])
async def test_what_cannot_be_written_is_refused_where_it_must_be_and_streams_go_on(
    house: House, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "RETRY_S", 0.01)
    file = house.folder / "audit.jsonl"
    file.symlink_to("/dev/full")
    house.audit_required = required
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        while not guarded.tenancy.audit.trouble:
            await asyncio.sleep(0.01)
        if required:
            error = await refusal(open_one(client, ""))
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert "the audit log cannot be written now" in error.message
            cue = await stream.cue("blue")
            events = await upto_segments(stream, 3)
            (told,) = [event for event in events if isinstance(event, RequestRefusedEvent)]
            assert told.cue_id == cue.id and "the audit log cannot be written now" in told.message
            assert guarded.refusals() == {"unavailable": 1}
        else:
            await open_one(client, "")
        assert await client.list_sessions(), "to look changes nothing"
        assert any(isinstance(event, SegmentEvent) for event in await upto_segments(stream, 3))
        file.rename(house.folder / "away")  # there is room again
        while guarded.tenancy.audit.trouble:
            await asyncio.sleep(0.01)
        await open_one(client, "")
    assert house.audited()[0]["action"] == "open"
