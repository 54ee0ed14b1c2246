"""Whose socket takes a connection to a port, asked of the real system."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

from jlab_node.runtime import ports

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def listening(address: str, port: int = 0, *, user: int | None = None) -> Iterator[int]:
    """A listening socket of `user`, on that address alone; its port."""
    if user is not None and os.getuid():
        pytest.skip("only root can make another user's socket")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        if user is not None:
            os.fchown(listener.fileno(), user, user)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_of_mine_finds_own_listener(address: str) -> None:
    with listening(address) as port:
        assert ports.address_of_my_listener(port)
    assert not ports.address_of_my_listener(port), "nobody has it any more"


def test_of_mine_on_all_addresses_of_both_kinds() -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        assert ports.address_of_my_listener(listener.getsockname()[1])


def test_an_address_that_127_0_0_1_does_not_lead_to() -> None:
    with listening("127.0.0.2") as port:
        assert not ports.address_of_my_listener(port)


def test_connected_or_bound_is_not_listening() -> None:
    with listening("127.0.0.1") as port, socket.create_connection(("127.0.0.1", port)) as made:
        assert not ports.address_of_my_listener(made.getsockname()[1])
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not ports.address_of_my_listener(bound.getsockname()[1])


def test_many_half_done_connections_do_not_hide_it() -> None:
    with listening("127.0.0.1") as port, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with listening("127.0.0.1") as another:
            assert ports.address_of_my_listener(port)
            assert ports.address_of_my_listener(another)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_of_mine_does_not_take_another_users(address: str) -> None:
    with listening(address, user=NOBODY) as port:
        assert not ports.address_of_my_listener(port)


def test_what_another_user_has_beside_it_does_not_matter() -> None:
    """The kernel prefers the exact address."""
    with listening("127.0.0.1") as port, listening("::", port, user=NOBODY):
        assert ports.address_of_my_listener(port)
    with listening("::") as port, listening("127.0.0.1", port, user=NOBODY):
        assert not ports.address_of_my_listener(port)


def test_who_listens_on_ipv6_alone_is_called_there() -> None:
    """Whether "::" takes what is sent to 127.0.0.1 is not to be seen: another may get that."""
    with listening("::") as port:
        assert ports.address_of_my_listener(port) == "::1"
    with listening("127.0.0.1") as port, listening("::", port):
        assert ports.address_of_my_listener(port) == "127.0.0.1"
