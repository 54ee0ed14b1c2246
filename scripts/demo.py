"""The demonstration itself; scripts/demo prepares the environment it runs in."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys

from loopback import Loopback, accepts, free_port
from notebook import evaluate


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", file=sys.stderr, flush=True)


def show(command: list[str]) -> list[str]:
    print(f"    $ {shlex.join(command)}", file=sys.stderr, flush=True)
    return command


def demo(site: Loopback, *, check: bool) -> int:
    """Everything that a user does, in that order; the exit code."""
    say(f'"login node": a throw-away sshd on 127.0.0.1:{site.port}, its home is {site.home}')
    say("there: start a session")
    session = site.start_session()
    show(["jlab-node", "run"])
    site.wait_for_session(session)
    log = site.root / "job.log"
    for line in log.read_text().splitlines():
        if line.startswith("jlab-node:"):
            print(f"    {line}", file=sys.stderr)
    say('"laptop": set it up, once')
    port = 8888 if not accepts(8888) else free_port()
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


def run_check(site: Loopback, url: str) -> int:
    say("a shell in the session says")
    subprocess.run(show(site.ssh("jlab+demo", "echo $USER on $HOSTNAME")), check=True)
    say("log in over the tunnel, start a kernel, run 6*7")
    answer = evaluate(url, "6*7")
    print(answer)
    return 0 if answer == "42" else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run 6*7 through it and end")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        with Loopback() as site:
            code = demo(site, check=arguments.check)
            say("taking everything down")
            return code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
