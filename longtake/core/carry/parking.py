"""Parking: a session that generates nothing gives up its place, and gets its state back with another one.

Theory of operation. A session that is paused, or whose client gives no credit, keeps its place for a grace time. If it
is between two blocks then, with nothing in flight, its lanes are stowed to host memory, after them its decoder slot;
when all of that is answered its pages, slot and rate are free (PARKED). Nothing of this is final before the last
answer: pages are only copied, so a session that may go on again meanwhile, or an image that could not be made, just
discards the images and stays; a slot that is stowed already is filled again where it was.

Once it has a place again (who gets one when is decided elsewhere), every image is sent to the worker that needs it, if
it lies with another, and loaded; the prompts in use are encoded anew, because a parked session keeps no text anywhere.
It goes on from the boundary it stopped at when all of this is answered, so no op ever finds half of its state.

A session that has not begun its first block has no state: parking it frees its place at once, and it holds nothing.
Any other comes back to workers of the classes that made its state, or its next bits would not be those of the stream.

So the state of a parked session lies in images, or in the journal, from which it is rebuilt (carry/rebuilding.py): what
a lost worker had, an image that could not be used, and all that a session held that could not stay where it was,
because a part of its place was lost and there was no room for that part elsewhere. Such a session gives up the rest as
well, as soon as nothing that names it is in flight, and waits for a place like any other.

An order that is not answered yet names pages or a slot; a session that ends meanwhile waits for it (`owes`).
"""

from __future__ import annotations

from longtake.core.carry.idle import Idle
from longtake.core.carry.parked import SLOT, HeldImage, ParkedState, ParkingAnswer
from longtake.core.carry.rebuilding import forsake, rebuild_lane, rebuild_slot
from longtake.core.cell import Cell
from longtake.core.effects import (
    Discard,
    Effect,
    Forget,
    LoadImage,
    Notice,
    Parked,
    PrepareStream,
    Stow,
)
from longtake.core.errors import InternalFault
from longtake.core.events import ImageFailed, Loaded, Stowed
from longtake.core.sessions import cues, renewing
from longtake.core.sessions.life import State, Trigger
from longtake.core.sessions.place import NOWHERE, Classes, Homes, Place
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity, ImageId, SessionId, WorkerId


class Parking:
    """Knows who is parked and how far that has come. It changes only the state and the place of sessions."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._records: dict[SessionId, ParkedState] = {}
        self._owners: dict[ImageId, SessionId] = {}
        self._holding: set[SessionId] = set()
        """Sessions that have images or will have some."""
        self._crowded: set[SessionId] = set()
        """Sessions that were told that there is no room for their images."""
        self.idle = Idle(cell)

    # --- away -------------------------------------------------------------------------------------------------------

    def begin(self, session: Session, *, now_s: float) -> list[Effect]:
        """Park a session that is idle; later if there is no room for its images."""
        if session.next_block == 0:
            self._records[session.id] = ParkedState()
            session.classes = Classes()
            session.follow(Trigger.PARK)
            return self._vacate(session)
        if len(self._holding) >= self._cell.limits.max_parked:
            self.idle.look_again(session.id, at_s=now_s + max(self._cell.limits.park_after_s, 1.0))
            return self._keep_place(session)
        session.follow(Trigger.PARK)
        self._holding.add(session.id)
        record = self._records[session.id] = ParkedState()
        orders: list[Effect] = []
        for lane, (worker, table) in enumerate(zip(session.place.lanes, session.place.tables, strict=True)):
            pages = table.kept(session.next_block)
            if pages:
                image = record.lanes[lane] = self._image(session, worker)
                record.owed[image.id] = worker
                orders.append(Stow(worker=worker, session=session.id, image=image.id, source=pages))
        return orders or self._stow_slot(session, record)

    def _keep_place(self, session: Session) -> list[Effect]:
        """Tell the client once that host memory is full."""
        if session.id in self._crowded:
            return []
        self._crowded.add(session.id)
        why = f"{len(self._holding)} streams are parked with their state, the most allowed; this one keeps its place"
        return [Notice(session=session.id, text=why)]

    def _stow_slot(self, session: Session, record: ParkedState) -> list[Effect]:
        place = session.place
        image = record.slot = self._image(session, place.decoder)
        record.owed[image.id] = place.decoder
        return [Stow(worker=place.decoder, session=session.id, image=image.id, source=place.slot)]

    def _image(self, session: Session, worker: WorkerId) -> HeldImage:
        image = HeldImage(next(self._cell.images), worker)
        self._owners[image.id] = session.id
        return image

    def adopt(self, session: Session) -> None:
        """A session comes from another engine, or is new and has a past: it lies nowhere but in the journal."""
        session.state = State.PARKED
        self._records[session.id] = ParkedState()

    def drop_images(self, session: Session, *, slot_only: bool = False) -> list[Effect]:
        """A session that is parked gives up its images: it comes back from the journal."""
        record = self._records[session.id]
        gone = [image for image in record.images if not slot_only or image is record.slot]
        for image in gone:
            self._dropped(record, image.id)
        session.progress.lose_all_but(record.lanes, slot=record.slot is not None)
        if not record.images:
            self._holding.discard(session.id)
        return [Discard(worker=image.worker, image=image.id) for image in gone if image.worker in self._cell.workers]

    def give_up(self, session: Session) -> list[Effect]:
        """Give up what is left of a place that was lost in part, with all images that are not wholly made."""
        record = self._records.setdefault(session.id, ParkedState())
        record.is_torn = True
        self.idle.forget(session.id)
        session.follow(Trigger.LOSE)
        for worker in session.place.workers:
            self._cell.workers[worker].ready.drop_session(session.id)
        return self.settle_torn(session)

    def settle_torn(self, session: Session) -> list[Effect]:
        """Free the rest of a place that is given up, if nothing that names it is in flight any more."""
        record = self._records.get(session.id)
        if session.state is not State.PARKING or record is None or not record.is_torn:
            return []
        return [] if record.owed or session.progress.in_flight else self._vacate(session)

    def _vacate(self, session: Session) -> list[Effect]:
        """Give up the place; the texts of the prompts go too. What lies with the images stays until they are used."""
        record, place = self._records[session.id], session.place
        record.is_torn = False
        effects: list[Effect] = [
            Forget(worker=worker, session=session.id, version=version)
            for version in sorted(session.prompts.encoded)
            for worker in place.workers
        ]
        session.progress.lose_all_but(record.lanes, slot=record.slot is not None)
        left = [worker for worker in dict.fromkeys((*record.left, *place.workers)) if worker in self._cell.workers]
        record.left = tuple(worker for worker in left if any(image.worker == worker for image in record.images))
        gone = [worker for worker in left if worker not in record.left]
        effects += [Forget(worker=worker, session=session.id, version=None) for worker in gone]
        demands = self._cell.fleet.demands(session)
        for worker in place.workers:
            self._cell.workers[worker].release(session, demands)
        self._cell.fleet.changed(*(self._cell.workers[worker] for worker in place.workers))
        session.place = NOWHERE
        if session.kin.depends or session.kin.unprepared or session.lane_holds:
            forsake(session)
        effects.append(session.trim(self._cell.fleet.retention(session.graph), all_texts=True))
        session.prompts.drop_all()
        session.flow = session.flow.stopped()
        session.follow(Trigger.STOWED)
        return [*effects, Parked(session=session.id)]

    # --- answers ----------------------------------------------------------------------------------------------------

    def heard(self, event: Stowed | Loaded | ImageFailed) -> ParkingAnswer | None:
        """Go on after an answer; None if the image belongs to no parked session."""
        session_id = self._owners.get(event.image)
        if session_id is None:
            return None
        session, record = self._cell.sessions[session_id], self._records[session_id]
        record.owed.pop(event.image, None)
        failed = isinstance(event, ImageFailed)
        lost = self._dropped(record, event.image) if not isinstance(event, Stowed) else None
        effects: list[Effect] = []
        if session.state is State.RESTORING and failed and lost is not None:
            effects = self._rebuild(session, record, lost, now_s=event.now_s)
        elif session.state is State.PARKING:
            if failed and lost == SLOT:  # unlike pages, a slot is given up to be stowed
                record.slot_is_gone = True
            record.gave_up = record.gave_up or failed
            effects = self._stowed(session, record, now_s=event.now_s)
        return ParkingAnswer(session=session_id, effects=effects)

    def _dropped(self, record: ParkedState, image: ImageId) -> int | None:
        """The image is used up or never came to be; returns which part it was of."""
        del self._owners[image]
        return record.drop(image)

    def _rebuild(self, session: Session, record: ParkedState, part: int, *, now_s: float) -> list[Effect]:
        """Bring a lane, or the slot, back from the journal: its image failed."""
        if part != SLOT:
            return rebuild_lane(self._cell, session, part, now_s=now_s)
        record.preparing = True
        return [rebuild_slot(self._cell, session, now_s=now_s)]

    def _stowed(self, session: Session, record: ParkedState, *, now_s: float) -> list[Effect]:
        """Go on if all that was ordered is answered: the slot comes after the lanes, and then the place is free."""
        if record.is_torn or record.owed:
            return self.settle_torn(session)
        if record.gave_up or session.wants_place:
            return self._turn_back(session, record, now_s=now_s)
        if record.slot is None and not record.slot_is_gone:
            return self._stow_slot(session, record)
        return self._vacate(session)

    def _turn_back(self, session: Session, record: ParkedState, *, now_s: float) -> list[Effect]:
        """Stay: the pages are as they were, and the slot is filled again if it was stowed."""
        session.follow(Trigger.RESTORE)
        effects: list[Effect] = []
        for image in record.lanes.values():
            del self._owners[image.id]
            effects.append(Discard(worker=image.worker, image=image.id))
        record.lanes.clear()
        if record.slot is None and not record.slot_is_gone:
            return effects
        return effects + self._prepare(session, record, now_s=now_s)

    # --- back -------------------------------------------------------------------------------------------------------

    def homes(self, session: Session) -> Homes | None:
        """Where its images lie, if it has one of each lane."""
        return self._records[session.id].homes(session.graph.lane_count)

    def restore(self, session: Session, place: Place, *, now_s: float) -> list[Effect]:
        """Bring a parked session back to `place`."""
        record = self._records[session.id]
        session.follow(Trigger.RESTORE)
        session.place = place
        effects: list[Effect] = []
        for lane in range(session.graph.lane_count):
            if lane not in record.lanes:
                effects += rebuild_lane(self._cell, session, lane, now_s=now_s)
        if session.continuity is not Continuity.EXACT:  # its client is to be told
            session.struck(now_s)
        for lane, image in list(record.lanes.items()):
            worker = place.lanes[lane]
            place.tables[lane].move_sinks(renewing.window(session, lane))
            effects += image.sent(session.id, worker)
            record.lanes[lane] = image.to(worker)
            record.owed[image.id] = worker
            target = place.tables[lane].kept(session.next_block)
            effects.append(LoadImage(worker=worker, session=session.id, image=image.id, target=target))
        if record.slot is not None:
            effects += record.slot.sent(session.id, place.decoder)
            record.slot = record.slot.to(place.decoder)
        effects += self._prepare(session, record, now_s=now_s)
        decoder = self._cell.workers[place.decoder]
        return [*effects, *self._cell.texts.ask(cues.unknown(session), decoder, now_s=now_s)]

    def _prepare(self, session: Session, record: ParkedState, *, now_s: float) -> list[Effect]:
        place, image = session.place, record.slot
        if image is None:
            return self._rebuild(session, record, SLOT, now_s=now_s)
        record.owed[image.id] = place.decoder
        settings = session.request.settings
        return [
            PrepareStream(worker=place.decoder, session=session.id, slot=place.slot, settings=settings, image=image.id)
        ]

    def prepared(self, session: SessionId) -> bool:
        """Its decoder slot is ready, or failed to be; whether it was on the way back."""
        record = self._records.get(session)
        if record is None:
            return False
        record.preparing = False
        if record.slot is not None and record.slot.id in record.owed:
            del record.owed[record.slot.id]
            self._dropped(record, record.slot.id)
        return True

    def is_back(self, session: Session) -> bool:
        """Whether a session that is on the way back may go on."""
        record = self._records[session.id]
        prompts = session.prompts
        texts = prompts.are_known and (session.is_opened or prompts.waiting.keys() <= prompts.encoded)
        return texts and not record.owed and not record.preparing and not session.is_to_encode

    def settle(self, session: Session) -> list[Effect]:
        """It is back: the workers it left drop the rest of it, and it is paused or runs."""
        record = self._forget(session.id)
        session.follow(Trigger.RESTORED)
        if session.playing:
            session.follow(Trigger.PLAY)
        gone = [
            worker for worker in record.left if worker not in session.place.workers and worker in self._cell.workers
        ]
        return [Forget(worker=worker, session=session.id, version=None) for worker in gone]

    # --- ends -------------------------------------------------------------------------------------------------------

    def owes(self, session: SessionId) -> bool:
        """Whether an order that names pages or a slot of the session is not answered."""
        return session in self._records and bool(self._records[session].owed)

    def lost(self, worker: WorkerId) -> tuple[list[Effect], set[SessionId]]:
        """Forget the images that this worker had, and the answers it owed; returned are the sessions that concerns.

        An image on its way from it is given up: a worker that hangs would have the one that takes it wait. The answer
        to that has the part rebuilt.
        """
        struck, effects = set(), list[Effect]()
        for session_id, record in self._records.items():
            gone = [image.id for image in record.images if image.worker == worker]
            owed = [image for image, by in record.owed.items() if by == worker]
            for image in owed:
                del record.owed[image]
            for image in gone:
                record.slot_is_gone = self._dropped(record, image) == SLOT or record.slot_is_gone
            if owed or gone:
                struck.add(session_id)
            halfway = [image for image in record.images if image.origin == worker and image.id in record.owed]
            effects += [Discard(worker=image.worker, image=image.id) for image in halfway]
        return effects, struck

    def leave(self, session: SessionId) -> list[Effect]:
        """The session ends: nothing is kept of it anywhere."""
        self.idle.forget(session)
        self._crowded.discard(session)
        if session not in self._records:
            return []
        record = self._forget(session)
        effects: list[Discard | Forget] = [Discard(worker=image.worker, image=image.id) for image in record.images]
        effects += [Forget(worker=worker, session=session, version=None) for worker in record.left]
        return [effect for effect in effects if effect.worker in self._cell.workers]

    def _forget(self, session: SessionId) -> ParkedState:
        record = self._records.pop(session)
        for image in record.images:
            self._owners.pop(image.id, None)
        self._holding.discard(session)
        return record

    def check(self) -> None:
        """State the invariants; InternalFault names the first one broken."""
        states = (State.PARKING, State.PARKED, State.RESTORING)
        there = {session.id for session in self._cell.sessions.values() if session.state in states}
        ending = {session.id for session in self._cell.sessions.values() if session.state is State.CLOSING}
        if not there <= self._records.keys() <= there | ending:
            raise InternalFault(f"sessions {sorted(there)} are parked, records are of {sorted(self._records)}")
        held = {image.id for record in self._records.values() for image in record.images}
        if held != self._owners.keys():
            raise InternalFault(f"images {sorted(held)} are held and {sorted(self._owners)} have an owner")
        if not self._holding <= self._records.keys():
            raise InternalFault("a session that has ended is still counted as parked")
        self.idle.check()
