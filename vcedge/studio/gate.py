"""Who may enter the studio: the one who has its address, from the page itself and nobody else.

The address that the terminal shows holds a token. Whoever brings it gets a cookie, which the
browser sends back below a folder that nobody can guess, so that no other server of this machine is
given it. Everything else is refused before it is read: another host's name (DNS rebinding), another
page's request (CSRF), a body that is too large.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcedge_runtime.video.view import answers_to

COOKIE = "vcedge_studio"
_MOST_DIGITS = 12
MOST_BODY = 2**25
"""Bytes of a request (our choice): a mask of 8192x8192 as PNG is a few hundred thousand."""
SAFE = ("GET", "HEAD")
_NO_KEY = "Open the whole address that vcedge studio printed, with its token."
_FORWARD = (
    '<!doctype html><title>vcedge studio</title><link rel="icon" href="/{folder}/icon.svg">'
    '<meta http-equiv="refresh" content="0;url=/{folder}/">'
)
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}

_HEADERS = {name.encode(): value.encode() for name, value in HEADERS.items()}


@dataclass(frozen=True)
class Keys:
    """What opens the studio; made anew each time it starts.

    Attributes:
        token: stands in the address that the terminal shows.
        session: the cookie's value.
        folder: what the page's address begins with.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    folder: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)


class Gate:
    """Lets requests through to an application, as the module says.

    Args:
        app: the application, which sees paths without the folder.
        keys: what opens it.
        host: which is served on, as the user named it.
    """

    def __init__(self, app: ASGIApp, keys: Keys, host: str) -> None:
        self._app = app
        self._keys = keys
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return  # no websocket is ever accepted
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        inside = f"/{self._keys.folder}/"
        path: str = scope["path"]

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = dict(message["headers"])
                message["headers"] = list({**_HEADERS, **own}.items())
            await send(message)

        refused = self._refuse(scope, headers)
        if refused is None and path == "/":
            refused = self._enter(scope)
        elif refused is None and not (path.startswith(inside) and self._knows_cookie(headers)):
            refused = _say(401, _NO_KEY)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        within = {**scope, "path": path[len(inside) - 1 :], "raw_path": None}
        await self._app(within, _Bounded(receive).receive, send_guarded)

    def _refuse(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """What is wrong with a request wherever it goes; None where nothing is."""
        host = headers.get("host", "")
        if not answers_to(self._host, host):
            return _say(421, "This studio has another address.")
        origin = headers.get("origin")
        own = {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}
        if origin is not None and origin.lower() not in own:
            return _say(403, "The request came from another page.")
        if origin is None and scope["method"] not in SAFE:
            return _say(403, "The request came from no page.")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and scope["path"] != "/":
            return _say(403, "The request came from another page.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > _MOST_DIGITS or int(length) > MOST_BODY:
            return _say(413, f"The request holds more than {MOST_BODY:,} bytes.")
        return None

    def _enter(self, scope: Scope) -> Response:
        """Give the cookie to who brings the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] not in SAFE or not _equal(given, self._keys.token):
            return _say(401, _NO_KEY)
        # A redirect would count as the other page's, whose link this may be, and bring no cookie.
        response = HTMLResponse(_FORWARD.format(folder=self._keys.folder))
        response.set_cookie(
            COOKIE,
            self._keys.session,
            path=f"/{self._keys.folder}/",
            httponly=True,
            samesite="strict",
        )
        return response

    def _knows_cookie(self, headers: dict[str, str]) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and _equal(morsel.value, self._keys.session)


class _Bounded:
    """Hands on a request's body up to ``MOST_BODY``, whatever length it announced."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MOST_BODY

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return {"type": "http.disconnect"}
        return message


def _equal(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much is right."""
    return secrets.compare_digest(given.encode(), expected.encode())


def _say(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)
