"""The end of a gRPC call, as seen by who serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from longtake.core.errors import InternalFault


def when_over(clean_up: Callable[[], object]) -> None:
    """Call `clean_up` once the present call is over, however it ends. InternalFault if no call is being served.

    A handler's own `finally` is not enough: when a call breaks while gRPC sends one of its answers, the generator that
    makes them is not told. Only the task that drives it ends; the generator ends whenever it is collected.
    """
    task = asyncio.current_task()
    if task is None:
        raise InternalFault("a call is served outside of any task")
    task.add_done_callback(lambda _: clean_up())
