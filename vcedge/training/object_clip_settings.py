"""How clips with object masks are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from vcedge.training.camera import CameraRange
from vcedge.training.deformation import ColourRange, MotionRange
from vcedge_runtime.errors import TrainingError

_NO_FAULTS = CameraRange()
_STILL_MOTION = MotionRange()
_STILL_COLOUR = ColourRange(0.1, 0.05, 0.05, 0.05, grey=0.05)
_STILL_FRAME_COLOUR = ColourRange(0.1, 0.05, 0.05)
_STILL_PASTED = MotionRange(angle=12, shear=5, shift=0.15)
_VIDEO_MOTION = MotionRange(angle=15, scale=0, shear=10, shift=0, bend=0, bend_share=0)
_VIDEO_COLOUR = ColourRange(0.1, 0.03, 0.03, grey=0.05)
_VIDEO_FRAME_COLOUR = ColourRange(0.01, 0.01, 0.01)
_VIDEO_PASTED = MotionRange(angle=6, shear=3, shift=0.06, bend=0, bend_share=0)


@dataclass(frozen=True)
class ObjectClipSettings:
    """How a clip is drawn; the numbers that are not STCN's are our choice.

    Attributes:
        side: side of the crop as a share of the source's short side, drawn log-uniformly.
        motion: steps of the crop between frames.
        colour: change of the whole clip.
        frame_colour: further change of each frame.
        composite: share of the clips that get an object of another source for each object that
            their own lacks.
        distractor: share of the clips with a further object that has no id.
        copied: share of the distractors that are copies of the clip's own object.
        behind: share of the pasted objects that lie behind the clip's own.
        twins: share of the pasted objects with an id that are copies of the clip's own object.
        kin: share of the pasted objects of other stills that are of the same kind.
        zoomed: share of the clips whose crop grows or shrinks from frame to frame.
        ratio: by how much at most.
        absent: share of the clips whose objects are all pasted, and away from some frames; the
            scene's own objects then have no id.
        covered: share of the clips whose first object is covered in some frames.
        camera: what a camera does to the pictures.
        pasted_motion: steps of pasted objects between frames.
        smallest: share of the first frame that an object covers at least.
        attempts: draws of a crop or a place in search of that.
    """

    side: tuple[float, float] = (1 / 1.5, 1 / 0.8)
    motion: MotionRange = _STILL_MOTION
    colour: ColourRange = _STILL_COLOUR
    frame_colour: ColourRange = _STILL_FRAME_COLOUR
    composite: float = 1.0
    distractor: float = 0.4
    copied: float = 0.25
    behind: float = 0.5
    twins: float = 0.0
    kin: float = 0.0
    zoomed: float = 0.0
    ratio: float = 4.0
    absent: float = 0.0
    covered: float = 0.0
    camera: CameraRange = _NO_FAULTS
    pasted_motion: MotionRange = _STILL_PASTED
    smallest: float = 0.01
    attempts: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.attempts < 1 or self.ratio < 1:
            raise TrainingError(f"received {self}; expected attempts and a ratio of at least 1")
        if not 0 < self.side[0] <= self.side[1]:
            raise TrainingError(f"received side {self.side}; expected two growing positive shares")
        pasted = (self.composite, self.distractor, self.copied, self.behind, self.twins, self.kin)
        shares = (*pasted, self.zoomed, self.absent, self.covered, self.smallest)
        if min(shares) < 0 or max(shares) > 1:
            raise TrainingError(f"received {self}; expected shares from 0 to 1")


@dataclass(frozen=True)
class VideoClipSettings(ObjectClipSettings):
    """The same with STCN's numbers for video.

    Attributes:
        near_share: share of the frames after the second that are at most ``near`` steps from the
            one before.
        near: those steps.
    """

    side: tuple[float, float] = (0.4, 1.0)
    motion: MotionRange = _VIDEO_MOTION
    colour: ColourRange = _VIDEO_COLOUR
    frame_colour: ColourRange = _VIDEO_FRAME_COLOUR
    composite: float = 0.5
    distractor: float = 0.5
    copied: float = 0.0
    pasted_motion: MotionRange = _VIDEO_PASTED
    near_share: float = 0.5
    near: int = 5

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not 0 <= self.near_share <= 1 or self.near < 1:
            raise TrainingError(f"received {self}; expected near_share in 0-1, near at least 1")
