"""Text of users and catalogues, made safe for a terminal."""

import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clearing the screen
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS and their like: window title, clipboard
)
_BREAK = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that change the direction of the text around them."""


def printable(text: str) -> str:
    """The text on one line, without control sequences (ECMA-48, as ANSI colours) and control characters.

    A title that comes from somewhere else could otherwise clear the screen, change what was printed before, or write to the
    clipboard of the person who reads it.
    """
    return _CONTROL.sub("", _BREAK.sub(" ", _SEQUENCE.sub("", text)))
