"""A recording for Rerun's viewer: frames, masks, boxes, scores and times along the video.

A file is Rerun's own ``.rrd``; ``connect`` sends to a viewer that runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MissingExtraError, OutputError
from vcedge_runtime.files import explaining, unwritable
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.telling import tell_cause
from vcedge_runtime.video.categories import Categories
from vcedge_runtime.video.outputs import Output
from vcedge_runtime.video.palette import davis_palette
from vcedge_runtime.video.piping import PipedFile
from vcedge_runtime.video.regions import measure_regions
from vcedge_runtime.video.sinks import DEFAULT_FPS, NO_STATES, Labels, Scores, Sink, States
from vcedge_runtime.video.sources import Frame

CONNECT = "connect"
LONGEST_FLUSH = 10.0
"""Seconds that a viewer may take to hear what it was sent (our choice)."""
LONGEST_GATHERED = 5.0
"""Seconds that a file's next piece is gathered (our choice)."""
_QUALITY = 85


class RerunLog(Sink):
    """Logs each frame to Rerun: on the timelines ``frame`` and ``time``.

    Args:
        place: the file, which stands there once the sink is closed; ``connect`` for a viewer on
            this machine, or a viewer's address, ``rerun+http://HOST:9876/proxy``.
        fps: frames a second; 25 where the source does not say.
        names: of the objects, by id; several may have one. The others are ``object``.
        live: whether the video may have no end: what Rerun finds frames in a file by, and holds in
            memory until then, some megabytes an hour, is then not written.
        output: the run's place, which records the file; None to replace what has its name.

    Raises:
        MissingExtraError: Rerun is not installed.
        OutputError: the address is none, the file cannot be written, or a name is none.
    """

    def __init__(
        self,
        place: str | Path,
        fps: float | None = None,
        names: Mapping[int, str] | None = None,
        *,
        live: bool = False,
        output: Output | None = None,
    ) -> None:
        self._rerun: Any = import_rerun()
        self._place = str(place)
        self._categories = Categories(names)
        self._fps = fps or DEFAULT_FPS
        self._output = output
        self._described: set[int] = set()
        self._frames = 0
        self._file = None if is_viewer(place) else PipedFile(Path(place))
        self._stream: Any = self._rerun.RecordingStream("vcedge", batcher_config=self._batch())
        with self._explaining():
            if self._file is not None:
                self._stream.save(self._file.place, write_footer=not live)
                self._file.let_go()
            else:
                self._stream.connect_grpc(None if self._place == CONNECT else self._place)
                # That there is a viewer shows when it has taken something.
                self._stream.log("video", self._rerun.Clear(recursive=True))
                self._stream.flush(timeout_sec=LONGEST_FLUSH)

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Log the picture, its objects, their boxes and their scores."""
        if self._file is not None:
            self._file.check()
        rerun, stream = self._rerun, self._stream
        stream.set_time("frame", sequence=frame.index)
        stream.set_time("time", duration=frame.index / self._fps)
        regions = measure_regions(labels)
        self._describe(regions)
        image = rerun.Image(frame.image, color_model="BGR").compress(jpeg_quality=_QUALITY)
        stream.log("video", image)
        stream.log("video/objects", rerun.SegmentationImage(labels))
        boxes = rerun.Boxes2D(
            array=np.array([region.box for region in regions.values()], np.float32).reshape(-1, 4),
            array_format=rerun.Box2DFormat.XYWH,
            class_ids=list(regions),
        )
        stream.log("video/boxes", boxes)
        for object_id, score in scores.items():
            stream.log(f"scores/{object_id}", rerun.Scalars(score))
        self._frames += 1

    def time(self, timings_ms: Mapping[str, float]) -> None:
        """Log how long each stage of the frame that was written last took, in milliseconds.

        Args:
            timings_ms: of each stage; one that the model lacks, 0, is left out.
        """
        lasted = {stage: elapsed for stage, elapsed in timings_ms.items() if elapsed}
        for stage, elapsed in lasted.items():
            self._stream.log(f"timings/{stage}", self._rerun.Scalars(elapsed))

    def close(self) -> None:
        """Finish the recording; where no frame was written, there is no file."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            with finish_first(), self._explaining():
                stream.flush(timeout_sec=LONGEST_FLUSH)
                stream.disconnect()
                if self._file is not None:
                    self._keep(self._file)
        finally:
            if self._file is not None:
                self._file.draft.discard()

    def _keep(self, file: PipedFile) -> None:
        file.close()
        file.check()
        if not self._frames:
            return
        with explaining(file.draft.path):
            if self._output is not None:
                self._output.note(file.draft.path, file.draft.place)
            file.draft.keep()

    def _batch(self) -> Any:
        """How much Rerun gathers before it writes: of a file, few large pieces."""
        if self._file is None:
            return None
        return self._rerun.ChunkBatcherConfig(flush_tick=LONGEST_GATHERED)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        # Rerun has no error of its own.
        except RuntimeError as exc:
            if self._file is not None:
                raise unwritable(self._place, OSError(tell_cause(exc))) from exc
            raise OutputError(
                f"received --rerun {self._place}, which Rerun cannot write to ({tell_cause(exc)}); "
                "expected connect while a viewer runs, or a viewer's address such as "
                "rerun+http://127.0.0.1:9876/proxy; or write a file"
            ) from exc

    def _describe(self, ids: Mapping[int, object]) -> None:
        """Tell the viewer the names and colours of the objects that it has not heard of."""
        if self._described.issuperset(ids):
            return
        self._described.update(ids)
        palette: NDArray[np.uint8] = davis_palette()
        context = [(0, "background", (0, 0, 0, 0))]
        for object_id in sorted(self._described):
            label = f"{self._categories.name_of(object_id)} {object_id}"
            context.append((object_id, label, (*palette[object_id].tolist(), 255)))
        self._stream.log("video", self._rerun.AnnotationContext(context), static=True)


def is_viewer(place: str | Path) -> bool:
    """Tell whether a place is a viewer, and no file."""
    return str(place) == CONNECT or str(place).startswith(("rerun://", "rerun+"))


def import_rerun() -> ModuleType:
    """Import Rerun.

    Raises:
        MissingExtraError: it is not installed.
    """
    # It tells on the terminal what its files lack, and nothing that a user can mend.
    os.environ.setdefault("RUST_LOG", "off")
    try:
        import rerun
    except ImportError as exc:
        raise MissingExtraError(
            "Rerun, which needs Python 3.11 or newer, is not installed; run: "
            f"{how_to_install('rerun')}"
        ) from exc
    module: ModuleType = rerun
    return module
