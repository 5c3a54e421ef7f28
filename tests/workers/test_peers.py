"""Two workers meet and exchange tensors; what an end that dies or never comes does to the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from longtake.core.errors import Unavailable
from workers.peers import MeetingPoint, Pair


def test_tensors_of_any_shape_and_type_arrive_bit_for_bit(meeting_point: MeetingPoint) -> None:
    generator = torch.Generator().manual_seed(1)
    sent = [
        torch.randn(3, 5, generator=generator),
        torch.randn(2, 2, 2, generator=generator).to(torch.bfloat16),
        torch.tensor(7, dtype=torch.int64),
        torch.zeros(0, 4),
        torch.arange(12.0).view(3, 4).t(),
    ]

    def send() -> None:
        pair = Pair(meeting_point.address, "one", 0)
        pair.send_all(sent)

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send)
        pair = Pair(meeting_point.address, "one", 1)
        received = pair.receive_all()
        sending.result()
    assert [tensor.dtype for tensor in received] == [tensor.dtype for tensor in sent]
    assert all(torch.equal(a, b) for a, b in zip(received, sent, strict=True))
    assert meeting_point.names
    pair.close()
    assert not meeting_point.names


def test_exchanges_in_both_directions_at_once_do_not_wait_for_each_other(meeting_point: MeetingPoint) -> None:
    def meet(name: str, rank: int, value: float) -> float:
        pair = Pair(meeting_point.address, name, rank)
        tensor = torch.full((100_000,), value)
        if rank:
            pair.receive(tensor)
        else:
            pair.send(tensor)
        return float(tensor[-1])

    with ThreadPoolExecutor() as threads:
        ends = [(name, rank) for rank in (0, 1) for name in ("there", "back")]
        values = [threads.submit(meet, name, rank, 0.0 if rank else float(len(name))) for name, rank in ends]
        assert [value.result() for value in values] == [5, 4, 5, 4]


def test_an_end_that_never_comes_is_named(meeting_point: MeetingPoint) -> None:
    with pytest.raises(Unavailable, match="nobody came to 'alone'"):
        Pair(meeting_point.address, "alone", 0, timeout_s=0.3)


def test_what_an_end_that_met_nobody_left_behind_is_freed(meeting_point: MeetingPoint) -> None:
    with pytest.raises(Unavailable):
        Pair(meeting_point.address, "alone", 0, timeout_s=0.3)
    assert not meeting_point.names


def test_without_a_meeting_point_nobody_is_met() -> None:
    with pytest.raises(Unavailable, match="nobody is at the meeting point"):
        Pair("127.0.0.1:1", "anyone", 0, timeout_s=0.3)


def test_an_end_that_goes_away_ends_the_exchange(meeting_point: MeetingPoint) -> None:
    def leave() -> None:
        Pair(meeting_point.address, "brief", 0)

    with ThreadPoolExecutor() as threads:
        leaving = threads.submit(leave)
        pair = Pair(meeting_point.address, "brief", 1, timeout_s=2)
        leaving.result()
        with pytest.raises(Unavailable, match="the other end of 'brief' is gone"):
            pair.receive(torch.zeros(4))


def test_the_meeting_point_listens_on_its_own_interface_only(meeting_point: MeetingPoint) -> None:
    host, _, port = meeting_point.address.rpartition(":")
    with open("/proc/net/tcp", encoding="ascii") as table:
        bound = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert host == "127.0.0.1"
    assert f"0100007F:{int(port):04X}" in bound
