"""What a browser has asked for and has had no answer to."""

from __future__ import annotations

import pytest

from jlab_proxy.forwarding.pending_request import PendingRequest

GET = b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE = b"GET /lab HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nAccept: text/html\r\nUpgrade: websocket\r\n\r\n"
POST = b"POST /api HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
LARGE = b"x" * (1 << 16)


def asked(*pieces: bytes, is_carried: bool = True) -> PendingRequest:
    request = PendingRequest()
    for piece in pieces:
        request.add(memoryview(piece), is_carried=is_carried)
    return request


@pytest.mark.parametrize(
    ("pieces", "is_repeatable"),
    [
        ([], True),
        ([GET], True),
        ([GET[:9], GET[9:]], True),
        ([UPGRADE], True),
        ([POST], False),
        ([GET[:-4]], False),
        ([GET, POST], False),
        ([LARGE, GET], False),
    ],
    ids=["nothing", "GET", "in pieces", "websocket", "POST", "half", "GET and POST", "too much"],
)
def test_is_repeatable_takes_whole_safe_requests_alone(
    pieces: list[bytes], *, is_repeatable: bool
) -> None:
    assert asked(*pieces).is_repeatable is is_repeatable


def test_is_repeatable_after_an_answer_needs_another_request() -> None:
    request = asked(GET)
    request.answered()
    assert not request.is_repeatable
    request.add(memoryview(GET), is_carried=True)
    assert request.is_repeatable
    assert request.text == GET


@pytest.mark.parametrize(
    ("text", "is_page_load"), [(PAGE, True), (GET, False), (UPGRADE, False), (POST, False)]
)
def test_is_page_load_takes_requests_for_html_alone(text: bytes, *, is_page_load: bool) -> None:
    assert asked(text).is_page_load is is_page_load


@pytest.mark.parametrize(
    ("text", "is_silent"), [(b"", True), (GET[:-2], True), (GET, False), (LARGE, True)]
)
def test_is_silent_until_a_head_is_whole(text: bytes, *, is_silent: bool) -> None:
    assert asked(text, is_carried=False).is_silent is is_silent


def test_has_room_up_to_the_bound_while_nobody_takes_it() -> None:
    request = asked(LARGE[1:], is_carried=False)
    assert request.has_room
    request.add(memoryview(b"x"), is_carried=False)
    assert not request.has_room
    assert request.text == LARGE, "nothing of it is lost"
