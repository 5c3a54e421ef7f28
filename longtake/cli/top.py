"""`longtake top`: a server's load, workers and sessions, drawn anew each second in a terminal, or printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import click
import grpc
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from longtake.cli import values
from longtake.cli.json_lines import show_json
from longtake.cli.server import Server, server_options
from longtake.cli.stream import interruptible
from longtake.cli.top_figures import SORTS, Figures, Look, figures, same_server
from longtake.cli.top_screen import lines
from longtake.client import Client
from longtake.client.errors import ClientError

_LOOKS = 6
"""Rates are taken over the times between this many looks: an op may take longer than the time between two."""
_PATIENCE_S = 5.0
_ENDLESS = 10_000
"""The width, in columns, that is taken where the output is no terminal."""
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""The statuses of a server that may come back; other errors end the command."""


class Looks:
    """Looks at a server again and again, over whatever connection there is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Client | None = None
        self._looks: deque[Look] = deque(maxlen=_LOOKS)
        self._pictures_per_s = 0.0
        self.trouble = ""
        """Why there is no answer now; empty if there is one."""

    async def look(self) -> None:
        """Ask once; ClientError if asking again would not help."""
        try:
            client = self._client or self._server.client()
            self._client = client
            async with asyncio.timeout(_PATIENCE_S):
                if not self._pictures_per_s:
                    video = (await client.get_model()).video
                    self._pictures_per_s = video.fps_numerator / video.fps_denominator
                status, sessions = await asyncio.gather(client.get_status(), client.list_sessions())
            now = Look(at_s=asyncio.get_running_loop().time(), status=status, sessions=sessions)
        except (ClientError, TimeoutError) as error:
            await self.close()  # gRPC itself would wait longer and longer between its attempts
            if isinstance(error, ClientError) and error.code not in _GONE:
                raise
            why = error.message if isinstance(error, ClientError) else f"no answer within {_PATIENCE_S:g} s"
            self.trouble = f"{values.shown(self._server.target)} cannot be reached: {' '.join(why.split())}"
            return
        self.trouble = ""
        if self._looks and not same_server(self._looks[-1], now):
            self._looks.clear()
            self._pictures_per_s = 0.0
        self._looks.append(now)

    def figures(self, sort: str) -> Figures | None:
        """The figures that the looks give together; None before the second look."""
        if len(self._looks) < 2 or not self._pictures_per_s:
            return None
        return figures(self._looks[0], self._looks[-1], pictures_per_s=self._pictures_per_s, sort=sort)

    async def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            await self._client.close()
            self._client = None


class Keys:
    """What is pressed: q ends, s sorts by the next column."""

    def __init__(self, sort: str) -> None:
        self.sort = sort
        self.over = False
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Note that there is something new to show."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until a key is pressed, or there is something new to show."""
        await self._changed.wait()
        self._changed.clear()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within it keys are read one by one, without echo; afterwards the terminal is as it was."""
        if not sys.stdin.isatty():
            yield
            return
        import termios
        import tty

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
        loop = asyncio.get_running_loop()
        tty.setcbreak(number)
        loop.add_reader(number, self._read, number)
        try:
            yield
        finally:
            loop.remove_reader(number)
            termios.tcsetattr(number, termios.TCSADRAIN, before)

    def _read(self, number: int) -> None:
        pressed = os.read(number, 64)
        self.over = self.over or not pressed or b"q" in pressed
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + pressed.count(b"s")) % len(names)]
        self.wake()


@click.command(name="top")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each look.")
@click.option("--once", is_flag=True, help="Look twice, print what happened between, and end.")
@click.option("--interval", callback=values.duration, default="1s", show_default=True, metavar="TIME",
              help="How often to look.")  # fmt: skip
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="slack",
    show_default=True,
    help="What sessions are sorted by, worst first.",
)
def top_command(server: Server, as_json: bool, once: bool, interval: Fraction, sort: str) -> int:
    """Load, workers and sessions of a server, as they change.

    Keys: q ends, s sorts by another column.
    """
    console = Console(highlight=False, soft_wrap=True)
    if once or as_json or not console.is_terminal:
        return asyncio.run(_print(server, console, float(interval), sort, as_json=as_json, once=once))
    return asyncio.run(_draw(server, console, float(interval), sort))


async def _print(server: Server, console: Console, interval_s: float, sort: str, *, as_json: bool, once: bool) -> int:
    """Frames one below the other, all sessions in each."""
    watch = Looks(server)
    try:
        with interruptible() as interrupt:
            while True:
                await watch.look()
                if watch.trouble and once:
                    raise ClientError(grpc.StatusCode.UNAVAILABLE, watch.trouble)
                frame = watch.figures(sort)
                if watch.trouble:
                    click.echo(watch.trouble, err=True)
                elif frame is not None and as_json:
                    show_json(frame)
                elif frame is not None:
                    for line in lines(
                        frame, width=console.width if console.is_terminal else _ENDLESS, height=None, sort=sort
                    ):
                        console.print(line)
                if frame is not None and once:
                    break
                await asyncio.sleep(interval_s)
    finally:
        await watch.close()
    return interrupt.status


async def _draw(server: Server, console: Console, interval_s: float, sort: str) -> int:
    """One frame in the place of the other, until q or Ctrl-C."""
    watch, keys = Looks(server), Keys(sort)
    looking = asyncio.create_task(_look_on(watch, keys, interval_s))
    looking.add_done_callback(lambda _: keys.wake())
    screen = Live(console=console, screen=True, auto_refresh=False)
    try:
        with interruptible() as interrupt, keys.listening(), screen:
            while not keys.over and not looking.done():
                screen.update(_screen(watch, keys.sort, console, server), refresh=True)
                await keys.change()
        if looking.done():
            looking.result()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await watch.close()
    return interrupt.status


async def _look_on(watch: Looks, keys: Keys, interval_s: float) -> None:
    while True:
        await watch.look()
        keys.wake()
        await asyncio.sleep(interval_s)


def _screen(watch: Looks, sort: str, console: Console, server: Server) -> Group:
    width, height = console.size
    frame = watch.figures(sort)
    if frame is None:
        shown = [] if watch.trouble else [Text(f"asking {server.target} …")]
    else:
        shown = lines(frame, width=width, height=height - bool(watch.trouble), sort=sort)
    if watch.trouble:
        trouble = Text(f"{watch.trouble}; trying again", style="bold red")
        trouble.truncate(width, overflow="ellipsis")
        shown = [trouble, *shown]
    return Group(*shown)
