"""The command line; scripts/cluster runs it."""

from __future__ import annotations

import argparse
import os
import sys

from .cluster import HOSTS, SCHEDULERS, Cluster


def status(cluster: Cluster) -> int:
    for name in SCHEDULERS:
        print(f"{name:10}{'up' if cluster.is_up(name) else 'down'}")
    for host in HOSTS.values():
        print(f"  {host.name:8}{f'up, process {host.pid}' if host.is_ready else 'down'}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/cluster", description="Slurm and OAR, for real, on this one machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, or bring the product on it up to date")
    up.add_argument("scheduler", nargs="?", choices=tuple(SCHEDULERS))
    commands.add_parser("down", help="leave nothing of it")
    shell = commands.add_parser("shell", help="a login shell on a host")
    shell.add_argument("host", choices=tuple(HOSTS))
    shell.add_argument("user", nargs="?", default="root")
    commands.add_parser("status", help="what is up")
    arguments = parser.parse_args()
    cluster = Cluster()
    try:
        if arguments.command == "up":
            cluster.up((arguments.scheduler,) if arguments.scheduler else tuple(SCHEDULERS))
            cluster.keep()
        elif arguments.command == "down":
            cluster.down()
        elif arguments.command == "shell":
            login = ["sh", "-c", 'exec "$SHELL" -l']
            command = cluster.host(arguments.host).command(login, arguments.user)
            os.execvp(command[0], command)
        return status(cluster) if arguments.command == "status" else 0
    except (RuntimeError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
