"""A stranger reads nothing, whatever he sends; the page is let in."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("starlette", reason="Starlette serves the studio: vcedge[studio]")

from tests.vcedge.studio.square import Address
from vcedge.studio.gate import COOKIE, HEADERS, MOST_BODY, Keys

PATHS = ("state", "events", "frames/0", "masks/0", "index.html", "main.js", "files/masks", "")


def test_the_address_with_its_token_leads_to_the_page(studio: Address) -> None:
    entered = studio.ask("GET", f"/?token={studio.keys.token}")
    assert entered.status == 200
    folder = re.search(r"url=(/[\w-]+/)", entered.body.decode())
    assert folder is not None
    cookie, *rest = entered.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", f"Path={folder[1]}"} <= set(rest)
    page = studio.ask("GET", folder[1], Cookie=cookie)
    assert page.status == 200
    assert b"vcedge studio" in page.body


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=%C3%A9%00", "?t=1&token"])
def test_without_the_token_nobody_enters(studio: Address, query: str) -> None:
    answer = studio.ask("GET", f"/{query}")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert studio.keys.folder.encode() not in answer.body


@pytest.mark.parametrize("path", PATHS)
def test_without_the_cookie_nothing_is_read_even_by_who_knows_the_folder(
    studio: Address, path: str
) -> None:
    for cookie in (None, "", f"{COOKIE}=x", f"{COOKIE}={studio.keys.token}", "=;=\x7f;,"):
        answer = studio.ask("GET", f"/{studio.keys.folder}/{path}", Cookie=cookie)
        assert answer.status == 401
        assert len(answer.body) < 100


@pytest.mark.parametrize("path", PATHS)
def test_with_the_cookie_nothing_is_read_outside_the_folder(studio: Address, path: str) -> None:
    cookie = f"{COOKIE}={studio.keys.session}"
    assert studio.ask("GET", f"/{path}", Cookie=cookie).status == 401
    assert studio.ask("GET", f"//{studio.keys.folder}/{path}", Cookie=cookie).status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "localhost.x"]
)
def test_a_name_that_a_dns_could_turn_here_is_refused_before_the_token_is_looked_at(
    studio: Address, host: str
) -> None:
    answer = studio.ask("GET", f"/?token={studio.keys.token}", Host=host)
    assert answer.status in (400, 421)  # 400 is the server's own, for what is no host
    assert "set-cookie" not in answer.headers
    assert studio.as_page("GET", "state", Host=host).status in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_machines_own_addresses_are_known(studio: Address, host: str) -> None:
    host = f"{host}:{studio.port}"
    assert studio.as_page("GET", "state", Host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "x", "http://[", ""]
)
def test_another_pages_request_changes_and_reads_nothing(studio: Address, origin: str) -> None:
    assert studio.as_page("POST", "do/add", {}, Origin=origin).status == 403
    assert studio.as_page("GET", "state", Origin=origin).status == 403
    assert studio.session.objects == ()


def test_a_change_without_an_origin_is_refused(studio: Address) -> None:
    assert studio.as_page("POST", "do/add", {}, Origin=None).status == 403
    assert studio.as_page("PUT", "masks/0", b"", Origin=None).status == 403
    assert studio.session.objects == ()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_says_comes_from_elsewhere_is_refused(studio: Address, site: str) -> None:
    assert studio.as_page("GET", "frames/0", Sec_Fetch_Site=site).status == 403


def test_every_answer_forbids_other_hosts_frames_and_caches(studio: Address) -> None:
    answers = [
        studio.ask("GET", "/"),
        studio.ask("GET", f"/?token={studio.keys.token}"),
        studio.as_page("GET", ""),
        studio.as_page("GET", "nothing.js"),
        studio.do("box"),
    ]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(studio: Address) -> None:
    answer = studio.as_page("PUT", "masks/0", b"x", Content_Length=str(MOST_BODY + 1))
    assert answer.status == 413


def test_a_body_that_is_larger_than_announced_is_not_read_to_its_end(studio: Address) -> None:
    part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    body = part * (MOST_BODY // 0x10000 + 2) + b"0\r\n\r\n"
    try:
        answer = studio.as_page(
            "POST", "do/add", body, Transfer_Encoding="chunked", Content_Length=None
        )
        assert answer.status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server hung up while the rest was sent
    assert studio.session.objects == ()


def test_two_studios_share_no_key_and_print_none() -> None:
    first, second = Keys(), Keys()
    for name in ("token", "session", "folder"):
        assert getattr(first, name) != getattr(second, name)
        assert getattr(first, name) not in repr(first)
