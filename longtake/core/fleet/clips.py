"""Clips: what clients gave their streams, which a decode worker encodes part by part between its ops.

Theory of operation. A part is one latent frame, the least that the encoder can be asked for. A worker has one part at
most, and that takes one of the two places that it has for dispatches: whoever's decode is ready waits for what runs and
for what is queued, be that a part or an op, and never for a whole clip (dispatch/encoding.py says which goes first).
Between two parts of a clip the worker keeps the state of its encoder, one for all streams: so a clip is encoded to its
end before the next one on the same worker is begun, in the order in which they came.

Nothing here outlives a worker. A clip that was halfway begins anew on another; to encode it twice changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.errors import InternalFault
from longtake.core.events import OpFailed, PicturesEncoded
from longtake.core.parts import EncodePictures
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, WorkerId


@dataclass(slots=True)
class _Clip:
    """What one session was given, and how far it is encoded."""

    session: Session
    done: int = 0
    """So many parts."""
    ordered: EncodePictures | None = None
    """The one that the worker has."""

    @property
    def given(self) -> int:
        """How many parts the stream begins with."""
        return self.session.request.given_frames

    @property
    def parts(self) -> int:
        """How many there are, with the references."""
        return self.given + self.session.graph.window.references

    def order(self, worker: WorkerId) -> EncodePictures:
        """The next part."""
        part, stride = self.done, self.session.geometry.stride_time
        if part >= self.given:
            image = part - self.given
            pictures = range(image, image + 1)
        else:
            pictures = range(max(0, 1 + (part - 1) * stride), 1 + part * stride)
        return EncodePictures(
            worker=worker,
            session=self.session.id,
            part=part,
            pictures=pictures,
            is_reference=part >= self.given,
            follows=0 < part < self.given,
            leads=part + 1 < self.given,
        )


class Clips:
    """Those of one worker, from its joining to its loss."""

    __slots__ = ("_waiting", "out")

    def __init__(self) -> None:
        self._waiting: dict[SessionId, _Clip] = {}
        """Those that are not encoded to their end, in the order in which they came."""
        self.out: EncodePictures | None = None
        """The part that the worker has not answered; it may be of a session that has ended."""

    def __len__(self) -> int:
        """How many clips wait for their end."""
        return len(self._waiting)

    @property
    def parts(self) -> int:
        """How many parts are still to be encoded."""
        return sum(clip.parts - clip.done for clip in self._waiting.values())

    def put(self, session: Session) -> None:
        """Have what this session was given encoded here, from its beginning."""
        self._waiting[session.id] = _Clip(session)

    def drop(self, session: SessionId) -> None:
        """The session leaves; harmless if nothing of it waits."""
        self._waiting.pop(session, None)

    @property
    def has_turn(self) -> bool:
        """Whether there is a part that the worker could be given."""
        return self.out is None and bool(self._waiting)

    def order(self, worker: WorkerId) -> EncodePictures:
        """The part whose turn it is goes to the worker."""
        clip = next(iter(self._waiting.values()))
        self.out = clip.ordered = clip.order(worker)
        return self.out

    def answered(self, answer: PicturesEncoded | OpFailed) -> None:
        """The worker has encoded a part, or could not do something of its sessions."""
        out = self.out
        if out is None or not _answers(answer, out):
            return
        self.out = None
        clip = self._waiting.get(out.session)
        if clip is None or clip.ordered is not out:  # it left, and may have come back meanwhile
            return
        clip.ordered, clip.done = None, clip.done + 1
        if isinstance(answer, OpFailed) or answer.unfit or clip.done == clip.parts:
            del self._waiting[out.session]
            clip.session.is_to_encode = False

    def check(self, here: list[Session]) -> None:
        """State that everything that is to be encoded of those whose slot is here waits, and nothing else."""
        wanted = {session.id for session in here if session.is_to_encode}
        if wanted != self._waiting.keys():
            raise InternalFault(f"clips of {sorted(self._waiting)} wait to be encoded, not those of {sorted(wanted)}")


def _answers(answer: PicturesEncoded | OpFailed, order: EncodePictures) -> bool:
    if isinstance(answer, OpFailed):
        return answer.sequence is None and order.session in answer.sessions
    return (answer.session, answer.part) == (order.session, order.part)
