"""The reference: images that every block of a stream reads, and that are no part of what is shown of it.

Theory of operation. Its frames are numbered -r .. -1, and as if it were a block it goes by the number -1, which is done
from the beginning: before block 0 the op that seals the pages of a lane runs for it, in every lane, from its latents at
t = 0, and reads itself alone. So it is a renewal of which there is one in the life of a lane (renewals.py), it is the
first that a lane is rebuilt by, and what it has written is copied, shared and read as sinks are. It is made once (Knot
Forcing caches the K/V of its reference as a sink): no recache commits it anew, and its prompt is that of block 0.

On the wire and on disk there are no negative numbers. Its latents, all frames in one, are called those of block 0 that
enter step S + 1, behind the finished ones; nothing else enters that step.
"""

from __future__ import annotations

from longtake.core.recipe.renewals import Renewal
from longtake.core.recipe.window import Window

REFERENCE = -1
"""The number of a block that stands for the reference."""


def placing(window: Window, version: int) -> Renewal:
    """The commit of the reference, whose conditioning is of this version."""
    return Renewal(
        block=0,
        version=version,
        blocks=range(REFERENCE, 0),
        kept=range(0),
        window=window,
        is_joint=False,
    )


def told(block: int) -> int:
    """The number of a block where there are none below 0."""
    return max(block, 0)
