"""Command lines for the user's own ssh to a login node.

This is on the way of every `ssh jlab+x`, so it imports next to nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` would cost a tenth of the start-up
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .paths import Paths

# In the environment of an ssh that `open` or `doctor` has started: such an ssh submits no job.
OPEN = "JLAB_PROXY_OPEN"
TAGGED = "tagged"  # the value of OPEN if the cluster is to tag its status lines

# The alias may be set up for interactive use; this connection only carries bytes.
_BYTES_ONLY = (
    "-T",
    "-oRemoteCommand=none",
    "-oClearAllForwardings=yes",
    "-oForwardAgent=no",
    "-oForwardX11=no",
    "-oPermitLocalCommand=no",
)

# A shared connection that has died, as when the laptop slept, must not keep later ones waiting.
_KEEP_ALIVE = ("-oServerAliveInterval=15", "-oServerAliveCountMax=3")
_GREETING_TIMEOUT = 3.0  # seconds for an ssh of this computer to say hello, which it does at once
# Nobody is there to be asked.
_BATCH = ("-oBatchMode=yes", "-oConnectTimeout=10")


def command(
    paths: Paths, alias: str, remote: str, *, share: bool, batch: bool = False
) -> list[str]:
    """Return the ssh that runs `remote` on `alias`; `share` keeps the connection for later ones."""
    words = ["ssh", *_BYTES_ONLY, *(_BATCH if batch else ())]
    if not paths.is_default:
        words += ["-F", paths.config]
    control_path = paths.control_path() if share else None
    if control_path:
        words += [
            "-oControlMaster=auto",
            f"-oControlPath={control_path}",
            "-oControlPersist=2m",
            *_KEEP_ALIVE,
        ]
    return [*words, "--", alias, remote]


def outlive_the_terminal() -> None:
    """Let this process, and what it becomes or starts, ignore Ctrl-C and a closed terminal.

    An ssh that keeps its connection for later ones leaves the terminal, but not the command by
    which it gets through a jump host: other terminals' connections would end with that. It ends
    itself when what it carries has ended.
    """
    import _signal as signal  # type: ignore[import-not-found]  # what `signal` makes enums of

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def remote_command(file: str, arguments: Sequence[str], *, alias: str) -> str:
    """Return the command that runs `~/.jlab/FILE` on the cluster, whatever the login shell is.

    bash, dash, zsh, ksh, tcsh and fish read single quotes alike as long as nothing in them is a
    newline, "!", a backslash or a single quote. `arguments` are plain words; the number of a job
    may have brackets, which some shells would take for a pattern. What is not the user's own is not
    run: where others can write a home, they may have put it there.
    """
    missing, foreign = (f"{problem}: {remedy}" for problem, remedy in _refusals(alias))
    path = f".jlab/{file}"
    script = (
        f'cd || exit 69; test -O .jlab && test -O {path} && exec bash {path} "$@"; '
        f'test -e {path} && echo "{foreign}" >&2 || echo "{missing}" >&2; exit 69'
    )
    words = [f"'{each}'" if "[" in each else each for each in arguments]
    return " ".join([f"exec sh -c '{script}' jlab", *words])


def _refusals(alias: str) -> tuple[tuple[str, str], ...]:
    """Return problem and remedy where ~/.jlab is not there, and where it is not the user's."""
    return (
        (
            f"jlab-node is not set up on {alias}",
            "log in there and type pip install jlab-remote && jlab-node setup",
        ),
        (f"~/.jlab on {alias} belongs to another user", "look at what is in it, and remove it"),
    )


def refusal(said: str, *, alias: str) -> tuple[str, str] | None:
    """Return problem and remedy if the command of `remote_command` said so instead of running."""
    known = {f"{problem}: {remedy}": (problem, remedy) for problem, remedy in _refusals(alias)}
    return known.get(said)


def tell_master(word: str, paths: Paths, host: str, control_path: str = "") -> list[str]:
    """Return the ssh that tells the shared connection to `host` this word.

    `control_path`: where that connection has its socket; "": where ssh itself puts it.
    """
    config = [] if paths.is_default else ["-F", paths.config]
    where = [f"-oControlPath={control_path}"] if control_path else []
    return ["ssh", *config, f"-O{word}", *where, "--", host]


def remove_hung_masters(paths: Paths) -> bool:
    """Remove the sockets of shared connections that hang; return whether there were any.

    The next ssh would wait for them for ever. Where nobody listens any more, ssh begins anew by
    itself.
    """
    try:
        names = os.listdir(paths.directory) if paths.is_ours() else []  # noqa: PTH208
    except OSError:
        return False
    sockets = [f"{paths.directory}/{name}" for name in names if name.startswith("login-")]
    hung = [each for each in sockets if _is_hung(each)]
    for each in hung:
        try:  # contextlib would cost as much as all of this  # noqa: SIM105
            os.unlink(each)  # noqa: PTH108
        except OSError:
            pass
    return bool(hung)


def _is_hung(path: str) -> bool:
    """Return whether somebody listens there who does not begin to speak."""
    import _socket  # `socket` would cost a fifth of the start-up of `ssh jlab+x`

    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.settimeout(_GREETING_TIMEOUT)
        probe.connect(path)
        probe.recv(1)
    except (_socket.timeout, BlockingIOError):  # the latter: too many wait there already
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return False
