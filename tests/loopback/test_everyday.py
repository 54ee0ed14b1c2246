"""ls, logs, stop, close and completion, on a laptop with a cluster or two."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, accepts, finished, free_port, wait_until

from jlab_proxy import messages
from tests.loopback.light import light

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full


def proxy(
    site: Loopback, *arguments: str, text: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.proxy(*arguments),
        stdin=subprocess.DEVNULL if text is None else None,
        input=text,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def set_up(site: Loopback, *arguments: str) -> int:
    port = free_port()
    done = proxy(site, "setup", *(arguments or ("demo",)), "--yes", "--port", str(port))
    assert done.returncode == 0, done.stderr
    return port


@pytest.fixture
def laptop(site: Loopback) -> Loopback:
    """Set up, with a session called gpu."""
    site.wait_for_session(site.start_session("--name", "gpu"))
    set_up(site)
    return site


@pytest.fixture
def far(laptop: Loopback) -> Iterator[Loopback]:
    """A second cluster of the same laptop."""
    with Loopback("far") as made:
        made.laptop, made.config = laptop.laptop, laptop.config
        made.add_alias("far", made.port)
        subprocess.run(made.node("setup"), env=made.env, check=True, stdout=subprocess.DEVNULL)
        set_up(made, "far")
        yield made


def test_ls_of_all_clusters(laptop: Loopback, far: Loopback) -> None:
    done = proxy(laptop, "ls")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["CLUSTER", "SESSION", "NODE", "JOB", "LEFT"]
    assert lines[1].split() == ["demo", "gpu", os.uname().nodename, "-", "-"]
    assert lines[2:] == ["far: no session, and no job that will be one"]
    far.sshd.kill()
    wait_until(lambda: not accepts(far.port), "it is down")
    subprocess.run(
        laptop.ssh("-Oexit", "-oControlPath=" + master(laptop, "far"), "far"), check=False
    )
    done = proxy(laptop, "ls")
    assert done.returncode == 1
    assert "gpu" in done.stdout, "the others are listed all the same"
    assert "jlab-proxy: far: no connection to far: ssh: connect to host" in done.stderr
    assert proxy(laptop, "ls", "demo").returncode == 0


def master(site: Loopback, alias: str) -> str:
    """The socket of the shared connection to the alias."""
    asked = site.ssh("-G", f"-oControlPath={site.laptop}/jlab/login-%C", alias)
    printed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return next(line.split()[1] for line in printed.splitlines() if line.startswith("controlpath"))


def test_ls_json(laptop: Loopback) -> None:
    answer = json.loads(proxy(laptop, "ls", "--json").stdout)
    assert answer["format"] == 1
    (cluster,) = answer["clusters"]
    assert (cluster["alias"], cluster["problem"], cluster["jobs"]) == ("demo", "", [])
    (session,) = cluster["sessions"]
    assert (session["name"], session["scheduler"]) == ("gpu", "local")
    assert "token" not in json.dumps(answer)


@pytest.mark.parametrize("verb", ["ls", "close"])
def test_where_nothing_is_set_up(site: Loopback, verb: str) -> None:
    done = proxy(site, verb)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "jlab-proxy: no cluster is set up on this computer: type jlab-proxy setup ALIAS\n"
    )


def test_logs(laptop: Loopback) -> None:
    log = (laptop.root / "job.log").read_text()
    assert proxy(laptop, "logs", "demo", "-n", "100000").stdout == log
    assert proxy(laptop, "logs", "demo+gpu", "-n", "2").stdout == "".join(
        log.splitlines(keepends=True)[-2:]
    )
    done = proxy(laptop, "logs", "demo+none")
    assert done.returncode == 69
    assert "no log of a session called none is known" in done.stderr


def test_logs_of_a_session_that_is_over(laptop: Loopback) -> None:
    subprocess.run(laptop.node("stop", "gpu"), env=laptop.env, check=True)
    log = laptop.root / "job.log"
    wait_until(lambda: "is over" in log.read_text(), "it says its last")
    done = proxy(laptop, "logs", "demo", "-n", "1")
    assert done.stdout == 'jlab-node: session "gpu" is over (exit code 143)\n'


def test_logs_go_on(laptop: Loopback) -> None:
    following = subprocess.Popen(
        laptop.proxy("logs", "demo", "-f", "-n", "1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    following.stdout.readline()
    with (laptop.root / "job.log").open("a") as file:
        file.write("one more line\n")
    assert "one more line\n" in iter(following.stdout.readline, "")
    following.terminate()
    following.communicate(timeout=30)

    def left() -> str:
        asked = ["pgrep", "-f", "jlab_node logs --lines=1 --follow"]
        return finished(asked).stdout

    wait_until(lambda: not left(), "nothing of it stays on the cluster")


def test_a_terminal_is_not_at_the_mercy_of_a_log(laptop: Loopback) -> None:
    with (laptop.root / "job.log").open("a") as file:
        file.write("\x1b[31mred\x1b[m\x1b]0;title\x07 \x1b[2J \u202egnp.exe\u2066\u061c\r\n")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        laptop.proxy("logs", "demo", "-n", "1"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert os.read(ours, 1000) == b"\x1b[31mred\x1b[m?]0;title? ?[2J ?gnp.exe??\x1b[m\r\n"
    os.close(ours)


def test_an_address_that_no_port_leads_to(laptop: Loopback) -> None:
    done = proxy(laptop, "url", "demo+gpu")
    assert (done.returncode, done.stdout) == (1, "")
    problem = messages.no_local_port("demo+gpu", setup="demo --session gpu")
    assert done.stderr == f"jlab-proxy: {problem}\n"


def test_stop_asks_first(laptop: Loopback) -> None:
    done = proxy(laptop, "stop", "demo", text="n\n")
    assert done.returncode == 1
    assert f"session gpu runs on {os.uname().nodename}\n" in done.stdout
    assert "nothing was stopped" in done.stdout
    assert len(laptop.records()) == 1
    done = proxy(laptop, "stop", "demo+other", "--yes")
    assert done.returncode == 69
    assert "no session called other" in done.stderr
    done = proxy(laptop, "stop", "demo", text="")
    assert done.returncode == 1
    assert (
        done.stderr == "jlab-proxy: nothing was stopped: type --yes to stop it without a question\n"
    )
    assert len(laptop.records()) == 1
    done = proxy(laptop, "stop", "demo", text="y\n")
    assert (done.returncode, laptop.records()) == (0, []), done.stderr
    assert done.stdout.endswith("it is stopped\n")


def test_close(laptop: Loopback) -> None:
    done = proxy(laptop, "close")
    assert done.stdout == "demo: closed the shared connection to the login node\n"
    assert proxy(laptop, "close").stdout == "demo: nothing is open\n"
    forward = f"-L{free_port()}:/tmp/none.sock"
    tunnels = [subprocess.Popen(laptop.ssh("-N", *more, "jlab+demo")) for more in ((), (forward,))]
    shell = subprocess.Popen(laptop.ssh("jlab+demo", "cat"), stdin=subprocess.PIPE)
    port = int(forward[2:].split(":", maxsplit=1)[0])
    wait_until(lambda: accepts(port), "the tunnel is there")
    (laptop.laptop / "jlab" / "seen").unlink(missing_ok=True)
    done = proxy(laptop, "close", "demo")
    assert {f"demo: closed the tunnel of process {each.pid}" for each in tunnels} <= set(
        done.stdout.splitlines()
    )
    for each in tunnels:
        each.wait(timeout=30)
    shell.kill()  # it came over the shared connection, so that it may be over already
    shell.communicate()


def test_close_of_one_cluster_leaves_one_alone_whose_name_begins_so(laptop: Loopback) -> None:
    with Loopback("demo1") as other:
        other.laptop, other.config = laptop.laptop, laptop.config
        other.add_alias("demo1", other.port)
        other.wait_for_session(other.start_session(*light(other.root)))
        set_up(other, "demo1", "--mux")
        assert finished(laptop.ssh("jlab+demo1", "true")).returncode == 0
        with subprocess.Popen(laptop.ssh("-N", "-oControlPath=none", "jlab+demo1")) as tunnel:
            assert "session" not in proxy(laptop, "close", "demo").stdout
            assert finished(laptop.ssh("-O", "check", "jlab+demo1")).returncode == 0
            assert tunnel.poll() is None
            said = proxy(laptop, "close", "demo1").stdout
            assert "closed the shared connection to a session" in said
            assert f"closed the tunnel of process {tunnel.pid}" in said


# Each shell, with the printed script loaded, as if someone pressed Tab after $typed.
PRESS_TAB = {
    "bash": """
. "$script"
read -ra COMP_WORDS <<<"$typed"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_jlab_proxy_completion jlab-proxy
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
compdef() { :; }
compadd() { print -l -- "${(@P)argv[-1]}"; }
_describe() { print -l -- "${(@P)3}"; }
words=(${=typed}); CURRENT=$#words
. "$script"
_jlab_proxy_completion
""",
    "fish": """
source $script
complete -C $typed
""",
}


@pytest.mark.parametrize("shell", PRESS_TAB)
def test_completion(laptop: Loopback, tmp_path: Path, shell: str) -> None:
    """In the shell itself: clusters, and the sessions that were seen there last."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program = Path(sys.executable).with_name("jlab-proxy")
    script = tmp_path / "completion"
    printed = subprocess.run([program, "completion", shell], capture_output=True, check=True)
    script.write_bytes(printed.stdout)

    def press_tab(typed: str) -> set[str]:
        env = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "script": str(script),
            "typed": typed,
        }
        ask = [shell, "-c", PRESS_TAB[shell]]
        done = finished(ask, env=env)
        return {re.split("[\t:]", line)[0] for line in done.stdout.splitlines()}

    assert {"doctor"} <= press_tab("jlab-proxy do")
    words = f"jlab-proxy open -F {laptop.config} d"
    assert "demo" in press_tab(words)
    assert "demo+gpu" not in press_tab(words), "nobody has seen it yet"
    assert proxy(laptop, "ls").returncode == 0
    assert {"demo", "demo+gpu"} <= press_tab(words)
    assert "demo+gpu" not in press_tab(f"jlab-proxy setup -F {laptop.config} d"), "an alias alone"
