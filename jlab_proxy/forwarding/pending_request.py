"""What a browser has asked for and has had no answer to: whether it may be asked again. Pure."""

from __future__ import annotations

import re

_MAX_LENGTH = 1 << 16  # bytes of a request that may be asked again
_REPEATABLE = re.compile(rb"(?:GET|HEAD|OPTIONS) [^\r\n]+\r\n(?:[^\r\n]+\r\n)+\r\n", re.IGNORECASE)
_PAGE_LOAD = re.compile(rb"GET [^\r\n]+\r\n.*^accept:[^\r\n]*text/html", re.I | re.M | re.S)
_WEBSOCKET = re.compile(rb"^upgrade: *websocket", re.I | re.M)
_END_OF_HEAD = b"\r\n\r\n"


class PendingRequest:
    """What the client of a connection has said since it was last answered."""

    def __init__(self) -> None:
        self._text: bytearray | None = bytearray()  # None: too much to say it again
        self._is_first = True  # nothing was answered on this connection yet

    @property
    def text(self) -> bytes:
        """All of it; empty if it was too much to be kept."""
        return bytes(self._text or b"")

    @property
    def has_room(self) -> bool:
        """Whether more can be kept while nobody takes it."""
        return len(self._text or b"") < _MAX_LENGTH

    @property
    def is_silent(self) -> bool:
        """Whether the client has asked for nothing yet, and was not answered either."""
        return self._is_first and self._text is not None and _END_OF_HEAD not in self._text

    @property
    def is_page_load(self) -> bool:
        """Whether a person waits for a page, and nothing but a page."""
        text = self.text
        return bool(_PAGE_LOAD.match(text)) and not _WEBSOCKET.search(text)

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be asked again with no other effect than being asked once."""
        if self._text is None:
            return False
        return bool(_REPEATABLE.fullmatch(self._text)) or (self._is_first and not self._text)

    def add(self, piece: memoryview, *, is_carried: bool) -> None:
        """Keep what the client has said; `is_carried`: somebody has taken it as well."""
        if self._text is None:
            return
        self._text += piece
        if is_carried and len(self._text) > _MAX_LENGTH:
            self._text = None

    def answered(self) -> None:
        """Forget it: something was answered."""
        self._text, self._is_first = bytearray(), False
