"""Networks between the hosts: bridges in a namespace of their own, out of the machine's way."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .hosts import Host

if TYPE_CHECKING:
    from collections.abc import Iterable

SWITCH = Host("switch")
# Interface names have 15 characters at most, and the switch's are HOST.NETWORK.
_PREFIXES = {"net": "10.64.0", "slurm": "10.64.1", "oar": "10.64.2"}


class Networks:
    """The addresses of some hosts, and the cables to them."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._hosts = list(hosts)

    def start_switch(self) -> None:
        if SWITCH.pid is None:
            SWITCH.start()
            lines = ["link set lo up"]
            for bridge in _PREFIXES:
                lines += [f"link add name {bridge} type bridge", f"link set {bridge} up"]
            _ip(SWITCH, lines)

    def address(self, host: Host, network: str) -> str:
        return f"{_PREFIXES[network]}.{self._hosts.index(host) + 1}"

    def etc_hosts(self, host: Host) -> str:
        """Whom `host` can reach and where; the inner network wins."""
        lines = ["127.0.0.1 localhost"]
        for other in self._hosts:
            shared = [each for each in host.networks if each in other.networks]
            if shared:
                lines.append(f"{self.address(other, shared[-1])} {other.name}")
        return "\n".join([*lines, ""])

    def attach(self, host: Host) -> None:
        """Cables from a host that has just started to the switch."""
        for network in host.networks:
            port = f"{host.name}.{network}"
            # The port of a host that was killed goes away by itself, but takes its time.
            _ip(SWITCH, [f"link delete {port}"], check=False)
            _ip(
                SWITCH,
                [
                    f"link add name {port} type veth peer name {network} netns {host.pid}",
                    f"link set {port} master {network} up",
                ],
            )
        lines = ["link set lo up"]
        for network in host.networks:
            lines += [
                f"address add {self.address(host, network)}/24 dev {network}",
                f"link set {network} up",
            ]
        _ip(host, lines)


def _ip(host: Host, lines: list[str], *, check: bool = True) -> None:
    """The ip command in the host's network, but with the machine's process numbers."""
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{host.pid}/ns/net", "ip", "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"network of {host.name}: {done.stderr.strip()}")
