"""What the page may ask for: each request is checked by its annotations before it does anything."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from vcedge.studio.drawing import MOST_POINTS
from vcedge.studio.following import BACKWARD, FORWARD
from vcedge.studio.session import Session
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.settings import Bounds, Form, check_settings, settings_from_mapping
from vcedge_runtime.tracker import MAX_OBJECTS

FRAME = Annotated[int, Bounds(0, 10**9)]
OBJECT = Annotated[int, Bounds(1, MAX_OBJECTS)]
PIXELS = Annotated[float, Bounds(-1e5, 1e5)]
POINT = Annotated[tuple[PIXELS, ...], Bounds(2, 2)]
_UNSEEN = r"\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\ufeff"
TITLE = Annotated[str, Form(rf"[^\W_][^{_UNSEEN}]{{0,39}}", "up to 40 characters that print")]


@dataclass(frozen=True)
class Action:
    """A request of the page."""

    def __post_init__(self) -> None:
        check_settings(self)

    @abstractmethod
    def run(self, session: Session) -> int | None:
        """Do it; gives the frame that changed, where one did."""


@dataclass(frozen=True)
class AddObject(Action):
    """One more object."""

    name: TITLE | None = None

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.add_object(self.name)
        return None


@dataclass(frozen=True)
class RenameObject(Action):
    """Another name for an object."""

    object: OBJECT
    name: TITLE

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.rename_object(self.object, self.name)
        return None


@dataclass(frozen=True)
class RemoveObject(Action):
    """An object less, in every frame."""

    object: OBJECT

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.remove_object(self.object)
        return None


@dataclass(frozen=True)
class DrawBox(Action):
    """A box around an object: left, top, width, height in the frame's pixels."""

    frame: FRAME
    object: OBJECT
    box: Annotated[tuple[PIXELS, ...], Bounds(4, 4)]

    def run(self, session: Session) -> int | None:
        """Do it."""
        left, top, width, height = self.box
        session.draw_box(self.frame, self.object, (left, top, width, height))
        return self.frame


@dataclass(frozen=True)
class Click(Action):
    """A click on an object, or beside it, in the frame's pixels."""

    frame: FRAME
    object: OBJECT
    at: POINT
    positive: bool = True

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.click(self.frame, self.object, (self.at[0], self.at[1]), positive=self.positive)
        return self.frame


@dataclass(frozen=True)
class DrawStroke(Action):
    """A stroke of the brush, or of the eraser, in the frame's pixels."""

    frame: FRAME
    object: OBJECT
    points: Annotated[tuple[POINT, ...], Bounds(1, MOST_POINTS)]
    radius: Annotated[float, Bounds(0.5, 2000)]
    erase: bool = False

    def run(self, session: Session) -> int | None:
        """Do it."""
        points = [(x, y) for x, y in self.points]
        session.draw_stroke(self.frame, self.object, points, self.radius, erase=self.erase)
        return self.frame


@dataclass(frozen=True)
class Clear(Action):
    """An object that is not in a frame."""

    frame: FRAME
    object: OBJECT

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.clear(self.frame, self.object)
        return self.frame


@dataclass(frozen=True)
class Undo(Action):
    """The last change taken back."""

    def run(self, session: Session) -> int | None:
        """Do it."""
        return session.undo()


@dataclass(frozen=True)
class Redo(Action):
    """What was taken back, once more."""

    def run(self, session: Session) -> int | None:
        """Do it."""
        return session.redo()


@dataclass(frozen=True)
class Track(Action):
    """The tracker, from a frame on: so many frames, or up to the end."""

    frame: FRAME
    backward: bool = False
    steps: Annotated[int, Bounds(1, 10**9)] | None = None

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.track(self.frame, BACKWARD if self.backward else FORWARD, self.steps)
        return None


@dataclass(frozen=True)
class Watch(Action):
    """A camera's newest frames."""

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.watch()
        return None


@dataclass(frozen=True)
class Stop(Action):
    """An end of what runs."""

    def run(self, session: Session) -> int | None:
        """Do it."""
        session.stop()
        return None


ACTIONS: dict[str, type[Action]] = {
    "add": AddObject,
    "rename": RenameObject,
    "remove": RemoveObject,
    "box": DrawBox,
    "click": Click,
    "stroke": DrawStroke,
    "clear": Clear,
    "undo": Undo,
    "redo": Redo,
    "track": Track,
    "watch": Watch,
    "stop": Stop,
}
"""By the last word of their address."""


def read_action(name: str, data: bytes) -> Action:
    """Read a request.

    Args:
        name: one of ``ACTIONS``.
        data: JSON with what the action takes, which may mean harm.

    Raises:
        BundleError: it holds something else; the studio's requests are checked as all settings.
        TrackerError: it is no JSON.
    """
    try:
        given = json.loads(data or b"{}")
    except (ValueError, RecursionError) as exc:
        raise TrackerError("the request is no JSON; send an object with what it takes") from exc
    return settings_from_mapping(ACTIONS[name], given)
