"""What workers report beside their dispatches, as events."""

from __future__ import annotations

from longtake.core.events import Event, ImageFailed, Loaded, Stowed, StreamPrepared, TextEncoded
from longtake.core.work import WorkerId
from workers.messages import Encoded, ImageGone, ImageLoaded, ImageStowed, Prepared

Report = Encoded | Prepared | ImageStowed | ImageLoaded | ImageGone


def event_of(report: Report, worker: WorkerId, now_s: float) -> Event:
    """What has happened at `worker`."""
    match report:
        case Encoded():
            return TextEncoded(now_s=now_s, worker=worker, conditioning=report.conditioning, notice=report.notice)
        case Prepared():
            return StreamPrepared(
                now_s=now_s,
                worker=worker,
                session=report.session,
                header=report.header,
                media_type=report.media_type,
            )
        case ImageStowed():
            return Stowed(now_s=now_s, worker=worker, image=report.image)
        case ImageLoaded():
            return Loaded(now_s=now_s, worker=worker, image=report.image)
        case ImageGone():
            return ImageFailed(now_s=now_s, worker=worker, image=report.image, reason=report.reason)
