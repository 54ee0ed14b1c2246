"""The sentences of jlab-proxy's commands: what happened, where, and what to type next. Pure.

A function returns a sentence, or the JlabError that is shown as one. Short sentences that are used
once stand where they are used; docs/messages.md lists all of them.
"""

from __future__ import annotations

from .errors import (
    UNAVAILABLE,
    USAGE,
    JlabError,
    NoConnectionError,
    PortTakenError,
    WrongDirectoryError,
)

# The cluster and its answers.


def no_connection(alias: str, *, last_words: str, exit_code: int) -> NoConnectionError:
    """ssh did not get to the login node; `last_words` of it, "" where a person has read them."""
    if last_words:
        return NoConnectionError(f"no connection to {alias}: {last_words}", exit_code=exit_code)
    remedy = f"`ssh {alias}` must work first"
    return NoConnectionError(f"no connection to {alias}", remedy=remedy, exit_code=exit_code)


def no_answer_in_time(alias: str, *, seconds: float) -> NoConnectionError:
    """The cluster was asked, and did not answer for so long."""
    return NoConnectionError(f"{alias} has not answered for {seconds:.0f} s")


def no_answer(alias: str, *, megabytes: int = 0) -> JlabError:
    """What came holds no answer of jlab-node; `megabytes`: more than that came, and was cut."""
    problem = f"{alias} did not answer as jlab-node does"
    if megabytes:
        problem = f"{alias} sent more than {megabytes} MB and no answer"
    return JlabError(
        problem,
        remedy=f"`ssh {alias} true` must print nothing; if it prints something, look into "
        "~/.bashrc there",
    )


def invalid_answer() -> JlabError:
    """The cluster's answer is one of jlab-node, and has values that do not fit."""
    return JlabError(
        "the answer of jlab-node is not valid",
        remedy="log in to the cluster and type pip install -U jlab-remote && jlab-node setup",
    )


def cluster_is_older(alias: str) -> JlabError:
    """jlab-node there does not know what it was asked."""
    return JlabError(
        f"jlab-remote on {alias} is older than on this computer",
        remedy="log in there and type pip install -U jlab-remote && jlab-node setup",
    )


def cluster_is_newer(alias: str) -> JlabError:
    """jlab-node there answers in a way that is not understood here."""
    return JlabError(
        f"jlab-remote on {alias} is newer than on this computer",
        remedy="type pip install -U jlab-remote here",
    )


def unknown_host(alias: str, *, config: str) -> JlabError:
    """ssh can resolve the alias in no way."""
    return JlabError(
        f"ssh knows no host {alias}",
        remedy=f"add a Host entry for it to {config}; when `ssh {alias}` works, try again",
    )


# Local ports, and who has them.


def no_local_port(name: str, *, setup: str) -> JlabError:
    """No block has a port for that target; `setup`: the arguments that make one."""
    return JlabError(f"no local port leads to {name}", remedy=f"type jlab-proxy setup {setup}")


def port_of_another_block(port: int, host: str) -> JlabError:
    """The port was chosen with --port, and `host` has a block with it."""
    return JlabError(f"port {port} belongs to {host}", remedy="choose another one with --port")


def port_taken_by_other_user(port: int, alias: str) -> PortTakenError:
    """A program of another user listens there, alone or beside ours."""
    return PortTakenError(
        f"port {port} is taken by a program of another user",
        remedy=f"type jlab-proxy setup {alias} --port N to choose another port",
    )


def port_taken(port: int, alias: str, *, pid: int, command: str, is_ours: bool) -> PortTakenError:
    """A process of this user listens there; `is_ours`: one that `close` ends."""
    remedy = f"type jlab-proxy setup {alias} --port N to choose another port"
    if is_ours:
        remedy = f"type jlab-proxy close {alias} to end it"
    return PortTakenError(f"port {port} is taken by process {pid} ({command})", remedy=remedy)


def port_not_open(port: int, name: str, host: str) -> JlabError:
    """Nobody has the port, so that anybody could: no address is told."""
    return JlabError(
        f"nothing listens on port {port} yet",
        remedy=f"type jlab-proxy open {name}, or start ssh -N {host} first and type this again",
        exit_code=UNAVAILABLE,
    )


def port_is_settling(port: int) -> str:
    """On the status line: Linux keeps the port for a minute after its last connection."""
    return f"port {port} was in use a moment ago: waiting for it, a minute at most ..."


def port_leads_to_no_session(port: int, alias: str) -> JlabError:
    """JupyterLab there takes the token of no session of the cluster."""
    return JlabError(
        f"the program that answers at port {port} is not a session that {alias} knows",
        remedy=f"type jlab-proxy close {alias}, then connect again",
    )


def jupyterlab_is_silent(port: int) -> JlabError:
    """The forward is there, and nothing answers behind it."""
    return JlabError(f"JupyterLab does not answer at port {port}", remedy="try again soon")


# Directories of sockets on the node: where a port leads, and where the session has its own.


def block_leads_elsewhere(
    session: str, port: int, alias: str, *, leads_to: str, sockets: str | None
) -> JlabError:
    """The block in ~/.ssh/config names another directory than the session's own."""
    return JlabError(
        f"session {session} has its sockets in {sockets}, but port {port} leads to {leads_to}",
        remedy=f"type jlab-proxy setup {alias}",
    )


def ssh_leads_elsewhere(
    host: str, port: int, alias: str, *, leads_to: str, sockets: str
) -> WrongDirectoryError:
    """An ssh of the user's holds the port, by a block that names another directory."""
    return WrongDirectoryError(
        f"your ssh to {host} leads port {port} to {leads_to}, but the session has its sockets in "
        f"{sockets}",
        remedy=f"end that ssh, then type jlab-proxy setup {alias}",
    )


def ssh_may_lead_to_stranger(
    session: str, node: str, port: int, alias: str, *, leads_to: str, sockets: str | None
) -> JlabError:
    """An ssh of the user's may be on a node where the directory is not that of the session."""
    return JlabError(
        f"the ssh at port {port} may be connected to session {session} on {node}, but it leads to "
        f"{leads_to} instead of {sockets}",
        remedy=f"end that ssh, then type jlab-proxy open {alias}",
    )


# `open`


def already_opening(pid: int, text: str) -> str:
    """Another `open` has not reached the session yet; `text`: how far it is, as it says."""
    return f"process {pid} is opening it already{f': {text}' if text else ''}"


def already_open(pid: int, text: str) -> str:
    """Another `open` has reached the session; `text`: which, as it says."""
    return f"{text}; process {pid} holds it open"


def not_forwarded(name: str, pid: int) -> str:
    """The other `open` was not asked to forward that."""
    return f"{name} is not forwarded: end process {pid}, then open it again with --with {name}"


def exposed_at(name: str, address: str, *, is_exposed: bool) -> str:
    """Where the browser finds what the job exposes, or will find it."""
    later = "" if is_exposed else f" (once you type in the job: jlab-node expose {name} PORT)"
    return f"{name} at {address}{later}"


def newest_has_changed() -> str:
    """Why an ssh that leads somewhere is ended."""
    return "another session has become the newest, so ssh starts again"


def ssh_fails(standing: str, host: str, alias: str, *, last_words: str) -> JlabError:
    """The session is there, or will be, and ssh fails for good."""
    return JlabError(
        f"{standing}, but ssh {host} fails: {last_words}",
        remedy=f"type jlab-proxy doctor {alias} to find the reason",
    )


def submit_is_no_line() -> JlabError:
    """--submit was given a control character."""
    return JlabError("--submit takes one command line", exit_code=USAGE)


# `setup`


def other_host_key(alias: str, *, pinned: str, sent: str) -> str:
    """Above the question whether to pin the new one; both are fingerprints."""
    return (
        f"the sessions of {alias} have another host key than before:\n"
        f"  pinned here: {pinned}\n"
        f"  sent by {alias}: {sent}\n"
        f"this is right if you have removed ~/.jlab there: compare with what this prints there:\n"
        "  ssh-keygen -lf ~/.jlab/host_key.pub"
    )


def no_jupyter_lab(alias: str) -> str:
    """A note: the login node has none, and the job may have one."""
    return (
        f"note: jupyter-lab is not on the PATH of {alias}: activate its environment in the job "
        "before `jlab-node run`"
    )


def no_sshd(alias: str) -> str:
    """A note: the login node has none, and a compute node may have one."""
    return (
        f"note: {alias} has no sshd: sessions need one on their node, or "
        "`jlab-node run --sshd PATH`"
    )


def setup_is_done(host: str, name: str, port: int | None, *, option: str) -> str:
    """What to type from now on, two lines; `option`: that of another config file, or ""."""
    return (
        f"jlab-proxy open{option} {name}   opens JupyterLab in your browser (port {port})\n"
        f"ssh{option} {host}   opens a shell in your session"
    )


def block_is_removed(alias: str) -> str:
    """What `setup --remove` has done, and what it leaves."""
    return f"removed; the key of this computer stays in ~/.jlab/authorized_keys on {alias}"


def another_setup(lock: str, *, seconds: float) -> JlabError:
    """The lock of ~/.ssh/jlab was waited for in vain."""
    return JlabError(
        f"another jlab-proxy setup has held {lock} for {seconds:.0f} s",
        remedy="end it, or continue it if it is suspended",
    )
