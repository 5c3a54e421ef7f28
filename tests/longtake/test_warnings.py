"""What `longtake status` and `longtake top` warn of."""

from __future__ import annotations

from longtake.cli.top_figures import warnings
from longtake.v1 import longtake_pb2 as pb


def test_sessions_that_are_late_and_the_limit_that_follows_are_a_warning() -> None:
    status = pb.GetStatusResponse(sessions_late=1, reservable=0.0)
    assert warnings(status) == ("1 realtime session is late: no further one is let in",)
    status = pb.GetStatusResponse(sessions_late=2, reservable=0.0, limited_by="v0")
    assert warnings(status) == ("2 realtime sessions are late, limited by v0: no further one is let in",)
    status = pb.GetStatusResponse(reservable=0.36)
    assert warnings(status) == (
        "realtime sessions were late: they may reserve 36 % of each worker's time, and more while they are on time",
    )
