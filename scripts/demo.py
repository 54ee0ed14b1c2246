"""The demonstration itself; scripts/demo prepares the environment it runs in."""

from __future__ import annotations

import argparse
import shlex
import signal
import socket
import subprocess
import sys

import surroundings
from loopback import Loopback, free_port
from notebook import evaluate

PORT = 8888  # unless something has it


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", file=sys.stderr, flush=True)


def show(command: list[str]) -> list[str]:
    print(f"    $ {shlex.join(command)}", file=sys.stderr, flush=True)
    return command


def demo(site: Loopback, *, check: bool) -> int:
    """Everything that a user does, in that order; the exit code."""
    say(f'"login node": a throw-away sshd on 127.0.0.1:{site.port}, its home is {site.home}')
    say("there: start a session")
    start_session(site)
    say('"laptop": set it up, once')
    port = PORT if is_free(PORT) else free_port()
    setup = site.proxy("setup", site.alias, "--yes", "--port", str(port))
    subprocess.run(show(setup), check=True, stdout=sys.stderr)
    say("and open it")
    opened = subprocess.Popen(
        show(site.proxy("open", site.alias, "--no-browser")), stdout=subprocess.PIPE, text=True
    )
    assert opened.stdout is not None
    try:
        url = opened.stdout.readline().strip()
        if not url:
            return opened.wait() or 1
        if check:
            return run_check(site, url)
        shell = shlex.join(site.ssh("jlab+demo"))
        print(f"\n\nOpen in a browser:\n\n{url}\n\nA shell in the session:\n\n{shell}\n")
        print("Ctrl-C ends everything.", flush=True)
        return opened.wait()
    finally:
        opened.terminate()
        opened.wait()


def start_session(site: Loopback) -> None:
    """Wherever this is run, be it a login node, is "the login node" here."""
    session = site.start_session("--here")
    show(["jlab-node", "run", "--here"])
    log = site.root / "job.log"
    try:
        site.wait_for_session(session)
    except AssertionError:
        raise DemoError(f"the session does not start:\n{log.read_text()}") from None
    for line in log.read_text().splitlines():
        if line.startswith("jlab-node:"):
            print(f"    {line}", file=sys.stderr)


def is_free(port: int) -> bool:
    """Whether nothing has it, in either family; IPv6 need not be there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        return probe.connect_ex(("::1" if socket.has_ipv6 else "127.0.0.1", port)) != 0


class DemoError(Exception):
    """What stopped the demonstration, for whoever runs it."""


def run_check(site: Loopback, url: str) -> int:
    say("a shell in the session says")
    subprocess.run(show(site.ssh("jlab+demo", "echo $USER on $HOSTNAME")), check=True)
    say("log in over the tunnel, start a kernel, run 6*7")
    answer = evaluate(url, "6*7")
    print(answer)
    return 0 if answer == "42" else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="The main job on this one machine, from start to end."
    )
    parser.add_argument("--check", action="store_true", help="run 6*7 through it and end")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    surroundings.leave()
    try:
        with Loopback() as site:
            code = demo(site, check=arguments.check)
            say("taking everything down")
            return code
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode if error.returncode > 0 else 1
    except (DemoError, AssertionError, TimeoutError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
