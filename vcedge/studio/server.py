"""The studio's addresses: the page's files, frames and masks, what is asked, what is told."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.resources import files
from itertools import count

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from vcedge.studio.actions import ACTIONS, read_action
from vcedge.studio.exports import EXPORTS, Exports
from vcedge.studio.gate import Gate, Keys
from vcedge.studio.records import runs_of
from vcedge.studio.session import Session
from vcedge.studio.uploads import MOST_BYTES, mask_from_upload
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.video.overlay import line_colours
from vcedge_runtime.video.palette import davis_palette

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the page's files, by their suffixes."""
CACHED = {"cache-control": "private, max-age=3600"}
"""Of frames of a recorded video, which never change."""


def build_app(session: Session, exports: Exports, keys: Keys, host: str) -> ASGIApp:
    """Build the studio's application.

    Args:
        session: what the page works on.
        exports: what it hands out.
        keys: what opens it.
        host: which is served on, as the user named it.
    """
    studio = _Studio(session, exports)
    routes = [
        Route("/state", studio.tell_state),
        Route("/events", studio.tell_events),
        Route("/frames/{frame:int}", studio.show_frame),
        Route("/masks/{frame:int}", studio.show_mask),
        Route("/masks/{frame:int}", studio.load_mask, methods=["PUT"]),
        Route("/do/{action}", studio.act, methods=["POST"]),
        Route("/export/{kind}", studio.export, methods=["POST"]),
        Route("/files/{kind}", studio.hand_out),
        Route("/{file}", studio.show_page),
        Route("/", studio.show_page),
    ]
    handlers = {VcedgeError: _refuse, ClientDisconnect: _give_up}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Gate(app, keys, host)


class _Studio:
    """Answers what the page asks.

    Args:
        session: what the page works on.
        exports: what it hands out.
    """

    def __init__(self, session: Session, exports: Exports) -> None:
        self._session = session
        self._exports = exports
        self._changes = count()
        page = files("vcedge.studio").joinpath("page")
        self._page = {file.name: file.read_bytes() for file in page.iterdir() if file.is_file()}

    def show_page(self, request: Request) -> Response:
        name = request.path_params.get("file", "index.html")
        kind = KINDS.get(name[name.rfind(".") :])
        if name not in self._page or kind is None:
            return Response(status_code=404)
        return Response(self._page[name], media_type=kind)

    def tell_state(self, request: Request) -> Response:
        session, footage = self._session, self._session.footage
        (height, width), view_hw, span = footage.frame_hw, footage.view_hw, footage.span
        tracker = session.tracker
        video = {
            "label": footage.label,
            "width": width,
            "height": height,
            "viewWidth": view_hw[1],
            "viewHeight": view_hw[0],
            "fps": footage.fps,
            "live": footage.live,
            "first": span.start,
            "end": span.stop,
        }
        model = {"name": tracker.bundle.name, "size": tracker.size, "backend": tracker.backend}
        lanes = {each.id: _lane(session, each.id) for each in session.objects}
        kinds = EXPORTS.items()
        exports = [{"kind": name, "title": k.title, "about": k.about} for name, k in kinds]
        told = {"video": video, "model": model, "lanes": lanes, "exports": exports}
        return JSONResponse({**told, "work": session.work, **self._tell_objects()})

    def tell_events(self, request: Request) -> Response:
        async def stream() -> AsyncGenerator[str, None]:
            async with aclosing(self._session.events.listen()) as told:
                async for line in told:
                    yield line

        return StreamingResponse(stream(), media_type="text/event-stream")

    def show_frame(self, request: Request) -> Response:
        data = self._session.footage.view(request.path_params["frame"])
        headers = {} if self._session.footage.live else CACHED
        return Response(data, media_type="image/jpeg", headers=headers)

    def show_mask(self, request: Request) -> Response:
        records = self._session.records
        labels = records.labels_of(records.find(request.path_params["frame"]))
        runs = runs_of(labels, self._session.footage.view_hw)
        return Response(runs, media_type="application/octet-stream")

    async def load_mask(self, request: Request) -> Response:
        data, frame = bytearray(), request.path_params["frame"]
        async for part in request.stream():
            data += part
            if len(data) > MOST_BYTES:
                break

        def load() -> None:
            labels = mask_from_upload(bytes(data), self._session.footage.frame_hw)
            self._session.load_mask(frame, labels)

        await run_in_threadpool(load)
        return self._tell_change(frame)

    async def act(self, request: Request) -> Response:
        name = request.path_params["action"]
        if name not in ACTIONS:
            return Response(status_code=404)
        action = read_action(name, await request.body())
        frame = await run_in_threadpool(action.run, self._session)
        return self._tell_change(frame)

    def export(self, request: Request) -> Response:
        self._exports.start(request.path_params["kind"])
        return JSONResponse({})

    def hand_out(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        path = self._exports.path(kind) if kind in EXPORTS else None
        if path is None or not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, filename=path.name, content_disposition_type="attachment")

    def _tell_change(self, frame: int | None) -> Response:
        """Answer a change, and tell the other open pages of it."""
        told = {**self._tell_objects(), "serial": next(self._changes)}
        if frame is not None:
            told["changed"] = self._session.describe_frame(frame)
        self._session.events.publish("change", **told)
        return JSONResponse(told)

    def _tell_objects(self) -> dict[str, object]:
        session = self._session
        objects = [
            {"id": each.id, "name": each.name, "fill": _fill(each.id), "line": _line(each.id)}
            for each in session.objects
        ]
        drawn = session.records.drawn_frames()
        undo = {"undo": session.can_undo, "redo": session.can_redo}
        return {"objects": objects, "drawn": drawn, **undo}


def _lane(session: Session, object_id: int) -> str:
    return base64.b64encode(session.records.lane(object_id, session.footage.span)).decode()


def _fill(object_id: int) -> str:
    red, green, blue = davis_palette()[object_id].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _line(object_id: int) -> str:
    blue, green, red = line_colours()[object_id, 0].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


def _give_up(request: Request, error: Exception) -> Response:
    """Who sends is gone, or sent more than the gate lets through."""
    return Response(status_code=413)
