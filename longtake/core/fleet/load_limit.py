"""The load limit: the share of every worker's time that REALTIME streams may reserve now.

Theory of operation. Admission counts with what is measured. Where streams are late all the same (a worker is slower
than it says, its machine is shared, something between the workers is slow) that was too much. So while streams are late
nothing further is reserved, and of what was reserved of the fullest worker a part is the limit from then on. It rises
again step by step as long as all are on time, so that the load at which streams were late is come to again slowly, if
at all; and falls again at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

CUT = 0.9
"""The limit after streams were late, over what was reserved of the fullest worker then."""
STEP = 0.05
"""By so much the limit rises."""
STEP_S = 10.0
"""So often it rises while all are on time."""


class LoadLimit:
    """Falls when streams are late, and rises when they are on time."""

    __slots__ = ("_risen_s", "_share", "late", "most")

    def __init__(self, most: float) -> None:
        self.most = most
        """What it is where no stream was late."""
        self._share = most
        self._risen_s = -math.inf
        """When it rose last, or streams were late last."""
        self.late = 0
        """How many streams are late now."""

    @property
    def share(self) -> float:
        """What may be reserved of a worker's time; 0 while streams are late."""
        return 0.0 if self.late else self._share

    @property
    def is_lowered(self) -> bool:
        """Whether it is lower than it would be if no stream had been late."""
        return self.share < self.most

    def look(self, late: int, reserved: Callable[[], float], *, now_s: float) -> None:
        """Note that so many streams are late now; `reserved` says what is reserved of the fullest worker."""
        if late and not self.late:
            self._share = min(self._share, CUT * reserved())
        self.late = late
        if late:
            self._risen_s = now_s
        while self._share < self.most and now_s - self._risen_s >= STEP_S:
            self._risen_s += STEP_S
            self._share = min(self._share + STEP, self.most)

    def wait_s(self, missing: float) -> float | None:
        """How long it takes until the limit is higher by this share, if streams stay on time; None if never."""
        if self.share + missing > self.most:
            return None
        return max(1, math.ceil(missing / STEP)) * STEP_S
