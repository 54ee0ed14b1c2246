"""A laptop that reaches the login node's network only by sshuttle; see test_recipes.py.

Run as root in a network namespace of its own, which is the site; the laptop is a second one.
"""

from __future__ import annotations

import subprocess

from loopback import Loopback, free_port, wait_until

# Of these namespaces alone.
GATE, LAPTOP, NOBODY, LOGIN = "10.8.8.1", "10.8.8.2", "10.8.8.3", "10.9.9.9"


def sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


def main() -> None:
    """Exits with 0 if a session is reached with sshuttle, and not without."""
    laptop = subprocess.Popen(["unshare", "-n", "sleep", "600"])
    try:
        inside = ["nsenter", "-t", str(laptop.pid), "-n", "--"]
        own = subprocess.check_output(["readlink", "/proc/self/ns/net"])
        wait_until(
            lambda: subprocess.check_output(["readlink", f"/proc/{laptop.pid}/ns/net"]) != own,
            "the laptop's namespace",
        )
        sh(
            f"ip link set lo up; ip addr add {LOGIN}/32 dev lo;"
            f"ip link add site type veth peer name out netns {laptop.pid};"
            f"ip addr add {GATE}/24 dev site; ip link set site up"
        )
        # sshuttle catches what would take the default route, which leads nowhere here.
        wires = (
            f"ip link set lo up; ip addr add {LAPTOP}/24 dev out; ip link set out up;"
            f"ip route add default via {NOBODY}"
        )
        subprocess.run([*inside, "sh", "-ec", wires], check=True)
        connect(inside)
    finally:
        laptop.kill()
        laptop.wait()


def connect(inside: list[str]) -> None:
    gate, login = free_port(), free_port()
    addresses = [f"ListenAddress {GATE}:{gate}", f"ListenAddress {LOGIN}:{login}"]
    with Loopback("jeanzay", sshd_options=addresses) as site:
        site.add_alias("gateway", gate)
        # ssh takes the first value it finds.
        elsewhere = (
            f"Host jeanzay\n HostName {LOGIN}\n Port {login}\nHost gateway\n HostName {GATE}\n"
        )
        site.config.write_text(elsewhere + site.config.read_text())
        host_key = (site.root / "login" / "host_key.pub").read_text()
        with (site.laptop / "known_hosts").open("a") as file:
            file.write(f"[{GATE}]:{gate} {host_key}[{LOGIN}]:{login} {host_key}")

        def reached() -> bool:
            probe = f"exec 3<>/dev/tcp/{LOGIN}/{login}; read -t 5 -u 3 x; [[ $x == SSH* ]]"
            command = [*inside, "timeout", "10", "bash", "-c", probe]
            return not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode

        assert not reached(), "there is another way"
        site.wait_for_session(site.start_session())
        ssh = f"ssh -F {site.config}"
        tunnel = subprocess.Popen(
            [*inside, "sshuttle", "--method", "nat", "-e", ssh, "-r", "gateway", f"{LOGIN}/24"]
        )
        try:
            wait_until(lambda: tunnel.poll() is not None or reached(), "sshuttle's way", seconds=60)
            assert tunnel.poll() is None, "sshuttle has ended"
            setup = site.proxy("setup", "jeanzay", "--yes", "--port", str(free_port()))
            subprocess.run([*inside, *setup], check=True, stdin=subprocess.DEVNULL)
            command = [*inside, *site.ssh("jlab+jeanzay", "echo in the job")]
            said = subprocess.check_output(command, stdin=subprocess.DEVNULL, timeout=60)
            assert said == b"in the job\n", said
        finally:
            tunnel.terminate()
            tunnel.wait()


if __name__ == "__main__":
    main()
