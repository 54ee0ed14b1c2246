"""Measures where it happens: python -c THIS NAME, arguments as JSON on stdin, JSON on stdout.

It runs on laptop, login node or in the job, so it needs nothing but the standard library, and
psutil where processes are looked at. What is compared takes turns, so that the machine's moods meet
all of it alike.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

_CHUNK = 1 << 20
_PATIENCE = 120.0  # seconds


def stopwatch(steps: list[dict[str, Any]], rounds: int) -> dict[str, list[float]]:
    """Wall time of each step's command, after its shell command `before`."""
    taken: dict[str, list[float]] = {step["name"]: [] for step in steps}
    for _ in range(rounds):
        for step in steps:
            subprocess.run(
                ["sh", "-c", step.get("before", ":")], check=True, stdin=subprocess.DEVNULL
            )
            began = time.perf_counter()
            subprocess.run(step["command"], check=True, stdin=subprocess.DEVNULL)
            taken[step["name"]].append(time.perf_counter() - began)
    return taken


def transfer(commands: dict[str, list[str]], rounds: int, size: int) -> dict[str, list[float]]:
    """MB/s of `size` bytes through ssh, each way: the commands get a remote one to run."""
    up, down = "echo ready; exec cat >/dev/null", f"echo ready; read -r _; head -c {size} /dev/zero"
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            for way, remote in (("up", up), ("down", down)):
                seconds = _transfer([*command, remote], size if way == "up" else 0)
                rates.setdefault(f"{name} {way}", []).append(size / 1e6 / seconds)
    return rates


def _transfer(command: list[str], size: int) -> float:
    """From the moment that the other side is ready."""
    zeros = bytes(_CHUNK)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"ready\n"
        began = time.perf_counter()
        if not size:
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for left in range(size, 0, -_CHUNK):
            process.stdin.write(zeros[: min(left, _CHUNK)])
        if size:
            process.stdin.close()
        while os.read(process.stdout.fileno(), _CHUNK):
            pass
        return time.perf_counter() - began


def keystrokes(
    commands: dict[str, list[str]], rounds: int, count: int
) -> dict[str, list[list[float]]]:
    """Seconds until a byte typed on a terminal comes back, `count` of them in each round."""
    terminals = {name: _terminal(command) for name, command in commands.items()}
    taken: dict[str, list[list[float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        latencies: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(count):
            for name, (_, terminal) in terminals.items():
                began = time.perf_counter()
                os.write(terminal, b"x")
                os.read(terminal, 1)
                latencies[name].append(time.perf_counter() - began)
        for name, values in latencies.items():
            taken[name].append(values)
    for pid, terminal in terminals.values():
        os.kill(pid, signal.SIGTERM)
        os.close(terminal)
        os.waitpid(pid, 0)
    return taken


def _terminal(command: list[str]) -> tuple[int, int]:
    """ssh on a terminal, with something at its other end that says back what it gets."""
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(command[0], [*command, "stty raw -echo; echo ready; exec cat"])
    said = b""
    while b"ready" not in said:
        assert select.select([terminal], [], [], _PATIENCE)[0], said
        said += os.read(terminal, 4096)
    while select.select([terminal], [], [], 0.5)[0]:
        os.read(terminal, 4096)
    return pid, terminal


def get(
    ends: dict[str, int | str], token: str, path: str, rounds: int, count: int
) -> dict[str, list[list[float]]]:
    """Requests per second and MB/s of `count` requests of a path, on a connection that is kept.

    Each end is a port of this machine or the path of a unix socket.
    """
    taken: dict[str, list[list[float]]] = {name: [] for name in ends}
    kept = {name: _http(end) for name, end in ends.items()}
    for _ in range(rounds):
        for name, connection in kept.items():
            size, began = 0, time.perf_counter()
            for _ in range(count):
                size += _get(connection, token, path)
            seconds = time.perf_counter() - began
            taken[name].append([count / seconds, size / 1e6 / seconds])
    return taken


def _http(end: int | str) -> http.client.HTTPConnection:
    if isinstance(end, int):
        return http.client.HTTPConnection("127.0.0.1", end, timeout=_PATIENCE)
    connection = http.client.HTTPConnection("127.0.0.1", timeout=_PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(end)
    return connection


def _get(connection: http.client.HTTPConnection, token: str, path: str) -> int:
    connection.request("GET", path, headers={"Authorization": f"token {token}"})
    answer = connection.getresponse()
    size = 0
    while data := answer.read(_CHUNK):
        size += len(data)
    assert answer.status == 200, answer.status
    return size


def start(rounds: int, node: list[str], bare: list[str], token: str) -> dict[str, list[float]]:
    """Seconds until `jlab-node run` has published, and until a bare jupyter-lab answers."""
    port = _free_port()
    kinds: dict[str, tuple[list[str], Callable[[], object]]] = {
        "ours": ([*node, "run", "--name", "bench"], _is_published),
        "theirs": (_bare(bare, port), lambda: _is_up(port, token)),
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        for name, (command, is_up) in kinds.items():
            began = time.perf_counter()
            with _running(command, token) as process:
                _wait_until(is_up, process)
                if turn:  # what the first one reads from the disk is in memory for the others
                    taken[name].append(time.perf_counter() - began)
    return taken


def _bare(command: list[str], port: int) -> list[str]:
    words = ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    root = [] if os.geteuid() else ["--allow-root"]
    return [*command, *words, "--ServerApp.port_retries=0", *root]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _is_published() -> bool:
    return any((Path.home() / ".jlab/sessions").glob("[a-z]*-bench"))


def _is_up(port: int, token: str) -> bool:
    try:
        return _get(_http(port), token, "/api/status") > 0
    except (OSError, AssertionError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _running(command: list[str], token: str) -> Any:
    process = subprocess.Popen(
        command,
        env={**os.environ, "JUPYTER_TOKEN": token},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert process.poll() is None, f"{process.args!r} has ended"
        assert time.monotonic() < deadline, f"{process.args!r} is not up"
        time.sleep(0.005)


def idle(seconds: float, node: list[str], bare: list[str], token: str) -> dict[str, float]:
    """MB in memory and percent of a core over so many idle seconds: supervisor, bare JupyterLab."""
    import psutil

    port = _free_port()
    with _running([*node, "run", "--name", "bench"], token) as ours:
        _wait_until(_is_published, ours)
        with _running(_bare(bare, port), token) as theirs:
            _wait_until(lambda: _is_up(port, token), theirs)
            found = {"ours": psutil.Process(ours.pid), "theirs": psutil.Process(theirs.pid)}
            time.sleep(min(seconds, 5))  # what follows a start is over
            before = {name: sum(each.cpu_times()[:2]) for name, each in found.items()}
            time.sleep(seconds)
            return {
                key: value
                for name, each in found.items()
                for key, value in (
                    (f"{name} MB", each.memory_info().rss / 1e6),
                    (f"{name} PSS", _share(each.pid)),
                    (f"{name} %", 100 * (sum(each.cpu_times()[:2]) - before[name]) / seconds),
                )
            }


def below(pid: int, without: str = "") -> dict[str, float]:
    """Of the processes below `pid`: how many, MB, seconds of CPU.

    Those whose own name begins with `without` are not counted; memory is each one's share (PSS).
    """
    import psutil

    result = {"count": 0.0, "MB": 0.0, "CPU": 0.0}
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended
            if without and each.name().startswith(without):
                continue
            result["MB"] += _share(each.pid)
            result["CPU"] += sum(each.cpu_times())  # with that of its children which have ended
            result["count"] += 1
    return result


def _share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def at_once(command: list[str], count: int) -> dict[str, Any]:
    """Open so many connections together, say "open", and hold them until a line is on stdin."""
    began = time.perf_counter()
    held = [
        subprocess.Popen(
            [*command, "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    answered = sum(
        each.stdout is not None and each.stdout.readline() == b"ready\n" for each in held
    )
    taken = time.perf_counter() - began
    print("open", flush=True)
    sys.stdin.readline()
    errors = {each.communicate()[1].decode(errors="replace").strip() for each in held}
    return {"answered": answered, "seconds": taken, "errors": sorted(errors)}


def make_records(counts: list[int]) -> None:
    """Directories of so many records, the running session's the newest of each."""
    home = Path.home() / ".jlab"
    (home / "sessions").rename(home / "sessions-1")
    (real,) = (home / "sessions-1").glob("[a-z]*")
    text = real.read_text()
    job = next(line for line in text.splitlines() if line.startswith("job_id="))
    scheduler, _, name = real.name.split("-", 2)
    for count in counts[1:]:
        directory = home / f"sessions-{count}"
        directory.mkdir(mode=0o700)
        for number in range(10**6, 10**6 + count - 1):
            path = directory / f"{scheduler}-{number}-{name}"
            path.touch(mode=0o600)
            path.write_text(text.replace(job, f"job_id={number}"))
            os.utime(path, (number, number))
        shutil.copy2(real, directory)
    (home / "sessions").symlink_to("sessions-1")


def remove_records(counts: list[int]) -> None:
    home = Path.home() / ".jlab"
    (home / "sessions").unlink()
    (home / "sessions-1").rename(home / "sessions")
    for count in counts[1:]:
        shutil.rmtree(home / f"sessions-{count}")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.stdin.readline()))))
