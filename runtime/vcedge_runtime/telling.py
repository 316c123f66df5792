"""What a line may hold, whoever wrote what it tells: no password, nothing that moves a terminal."""

from __future__ import annotations

import re
import unicodedata

MOST_OF_CAUSE = 200
"""Characters."""
_LOGIN = re.compile(r"(?<=:/)(/?)(?:[^/\s]*@|[^/@:\s]*:(?!\d+/)[^@\s]*@)")
"""Who logs in, with a password that may hold @ or, unlike a host's port, a slash."""
_QUERY = re.compile(r"(?<=://)([^\s?]*)\?[^\s'\"!,;)]+")
"""What is asked of an address: cameras and clouds take passwords, tokens and signatures there."""
_USER_OPTION = re.compile(r"(?<=\buser-(?:id|pw)=)(?:\"[^\"]*\"|'[^']*'|\S+)")
"""What GStreamer's sources call them."""
_PAIR = re.compile(
    r"(?<![a-z])(pass(?:w|wd|word|code|phrase)?|pwd|token|secret)=(?!\.\.\.)[^\s'\"&;,!]+",
    re.IGNORECASE,
)
"""How else addresses name them, such as the paths of some cameras."""


def hide_secrets(text: str) -> str:
    """Take users and passwords out of an address or a pipeline, wherever it stands in a text."""
    text = _QUERY.sub(r"\1?...", _LOGIN.sub(r"\1", text))
    return _PAIR.sub(r"\1=...", _USER_OPTION.sub("...", text))


def make_printable(text: str) -> str:
    """Write what does not print as Python does: an escape sequence would move the terminal."""
    if text.isprintable():
        return text
    return "".join(c if _prints(c) else c.encode("unicode_escape").decode() for c in text)


def _prints(character: str) -> bool:
    if character.isprintable() or character in "\n\t":
        return True
    # A byte of a file's name that is no text, so that the name can be copied; lower ones than these
    # move some terminals.
    return "\udca0" <= character <= "\udcff" or unicodedata.category(character) == "Zs"


def tell_cause(cause: Exception) -> str:
    """Say in a line what a library failed by; some repeat all that they were given."""
    told = " ".join(f"{type(cause).__name__}: {cause}".split())
    return told if len(told) <= MOST_OF_CAUSE else f"{told[:MOST_OF_CAUSE]}..."
