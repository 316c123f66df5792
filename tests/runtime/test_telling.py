"""Text from outside before it reaches a terminal, a log or a file."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime import errors
from vcedge_runtime.errors import MaskError, VcedgeError
from vcedge_runtime.telling import hide_secrets, make_printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:secret@camera/live", "rtsp://camera/live"),
        ("rtsp://user:sec@ret@camera:554/live", "rtsp://camera:554/live"),
        ("rtsp://user:sec/ret@camera/live", "rtsp://camera/live"),
        ("ftp:/user:secret@host/clip.mp4", "ftp:/host/clip.mp4"),
        ("rtsp://camera:554/live@2", "rtsp://camera:554/live@2"),
        ("https://host/clip.mp4", "https://host/clip.mp4"),
        (
            "rtspsrc location=rtsp://u:secret@c/l ! fakesink",
            "rtspsrc location=rtsp://c/l ! fakesink",
        ),
        (
            "rtspsrc location=rtsp://c/l user-id=me user-pw='my secret' ! fakesink",
            "rtspsrc location=rtsp://c/l user-id=... user-pw=... ! fakesink",
        ),
        ("a folder/clip.mp4", "a folder/clip.mp4"),
        ("http://cam/video.cgi?user=me&pwd=secret", "http://cam/video.cgi?..."),
        ("https://cloud/clip.mp4?X-Amz-Signature=secret", "https://cloud/clip.mp4?..."),
        ("rtsp://cam/user=me&password=secret&stream=1", "rtsp://cam/user=me&password=...&stream=1"),
        ("srt://cam:9000?passphrase=secret", "srt://cam:9000?..."),
        ("received http://a:secret@c/x?t=secret, which", "received http://c/x?..., which"),
        ("what?no=secret", "what?no=secret"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert hide_secrets(shown) == shown


WORDS = st.text(st.characters(exclude_characters="@/ ?#'\"!,;)", exclude_categories=["Z", "C"]))


@given(WORDS)
def test_no_password_of_an_address_is_shown_whatever_is_in_it(word: str) -> None:
    secret = f"<{word}>"
    for address in (f"rtsp://me:{secret}@camera/live", f"http://camera/live?me={secret}"):
        assert secret not in hide_secrets(f"received {address}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("caf\u00e9 \u00a0 \u202f", "caf\u00e9 \u00a0 \u202f"),
        ("two\nlines", "two\nlines"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("caf\udce9", "caf\udce9"),
        ("\udc9b2J", "\\udc9b2J"),
        ("\r", "\\r"),
    ],
)
def test_what_does_not_print_is_written_as_python_writes_it(text: str, shown: str) -> None:
    assert make_printable(text) == shown


@given(st.text(st.characters()))
def test_every_line_that_is_told_can_be_printed(text: str) -> None:
    shown = make_printable(text)
    assert make_printable(shown) == shown
    bytes_of_names = dict.fromkeys(range(0xDCA0, 0xDD00))
    assert "".join(shown.split()).translate(bytes_of_names).isprintable()
    shown.encode(errors="surrogateescape")


@pytest.mark.parametrize("kind", [e for e in vars(errors).values() if isinstance(e, type)])
def test_no_error_of_ours_shows_a_password_or_moves_a_terminal(kind: type[Exception]) -> None:
    error = kind("received rtsp://me:secret@camera/\x1b[2J; expected another")
    assert str(error) == "received rtsp://camera/\\x1b[2J; expected another"


def test_an_error_goes_to_another_process_as_it_is() -> None:
    error = pickle.loads(pickle.dumps(MaskError("received a\x07b")))
    assert (type(error), str(error)) == (MaskError, "received a\\x07b")
    assert isinstance(error, VcedgeError)
