"""`jlab-proxy setup` on a real login node: what it writes, what it refuses, how it is undone."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, free_port

from jlab_proxy import messages
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import keys
from tests.jlab_proxy.test_sshconfig import FILES
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ready(site: Loopback) -> Loopback:
    """A site whose cluster side is there."""
    subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
    return site


def setup(site: Loopback, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.proxy("setup", *arguments),
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def setting(site: Loopback, host: str, key: str) -> str:
    """What ssh makes of its config file."""
    done = subprocess.run(site.ssh("-G", host), capture_output=True, text=True, check=True)
    found = re.search(rf"^{key} (.*)$", done.stdout, re.M)
    return found[1] if found else ""


def state(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below, with its mode and bytes; sockets of shared connections left out."""
    return {
        str(path): (stat.S_IMODE(path.lstat().st_mode), path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_what_it_writes(ready: Loopback) -> None:
    port = str(free_port())
    done = setup(ready, "demo", "--yes", "--port", port)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+Host jlab+demo jlab+demo+*" in done.stdout
    assert setting(ready, "jlab+demo", "user") == ready.user
    assert setting(ready, "jlab+demo", "stricthostkeychecking") == "true"
    assert setting(ready, "jlab+demo", "connecttimeout") in ("0", "none")
    assert setting(ready, "jlab+demo", "localforward") == f"[127.0.0.1]:{port} {ready.tmp}/lab.sock"
    assert setting(ready, "jlab+demo+gpu", "localforward") == ""
    assert setting(ready, "jlab+demo+gpu", "proxycommand").endswith(f"-F {ready.config}")
    host_key = (ready.home / ".jlab" / "host_key.pub").read_text().split()[:2]
    pinned = (ready.laptop / "jlab" / "known_hosts").read_text()
    assert pinned == f"jlab+demo,jlab+demo+* {' '.join(host_key)}\n"
    assert stat.S_IMODE((ready.laptop / "jlab").stat().st_mode) == 0o700
    assert stat.S_IMODE((ready.laptop / "jlab" / "id").stat().st_mode) == 0o600
    keys = (ready.home / ".jlab" / "authorized_keys").read_text()
    assert keys.startswith("ecdsa-sha2-nistp256 ")


def test_again_changes_nothing(ready: Loopback) -> None:
    setup(ready, "demo", "--yes")
    before = state(ready.laptop), state(ready.home / ".jlab")
    done = setup(ready, "demo")
    assert done.returncode == 0
    assert f"{ready.config} needs no change" in done.stdout
    assert (state(ready.laptop), state(ready.home / ".jlab")) == before


def test_remove_undoes_it(ready: Loopback) -> None:
    ready.config.chmod(0o644)
    before = ready.config.read_bytes()
    setup(ready, "demo", "--yes")
    setup(ready, "demo", "--session", "gpu", "--yes")
    assert f"LocalForward 127.0.0.1:8889 {ready.tmp}/gpu.sock\n" in ready.config.read_text()
    setup(ready, "demo", "--session", "gpu", "--remove", "--yes")
    assert "jlab+demo" in (ready.laptop / "jlab" / "known_hosts").read_text()
    done = setup(ready, "demo", "--remove", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert ready.config.read_bytes() == before
    assert stat.S_IMODE(ready.config.stat().st_mode) == 0o644
    assert (ready.laptop / "jlab" / "known_hosts").read_text() == ""
    again = setup(ready, "demo", "--remove", "--yes")
    assert "has no block for jlab+demo" in again.stdout


def test_remove_takes_the_blocks_of_single_sessions_too(ready: Loopback) -> None:
    ready.add_alias("demo2", ready.port)
    before = ready.config.read_bytes()
    for arguments in (["demo"], ["demo", "--session", "gpu"], ["demo2"]):
        assert setup(ready, *arguments, "--yes").returncode == 0
    setup(ready, "demo", "--remove", "--yes")
    left = ready.config.read_text()
    assert "jlab+demo2" in left
    assert "jlab+demo " not in left
    assert "jlab+demo+gpu" not in left
    setup(ready, "demo2", "--remove", "--yes")
    assert ready.config.read_bytes() == before


def test_another_host_key_of_the_sessions_is_asked_about(ready: Loopback) -> None:
    setup(ready, "demo", "--yes")
    for name in ("host_key", "host_key.pub"):
        (ready.home / ".jlab" / name).unlink()
    subprocess.run(ready.node("setup"), env=ready.env, check=True, stdout=subprocess.DEVNULL)
    before = state(ready.laptop)
    done = setup(ready, "demo")
    assert done.returncode == 1
    assert done.stderr == "jlab-proxy: nothing was changed: type --yes to pin the new host key\n"
    assert "another host key than before" in done.stdout
    assert len(set(re.findall("SHA256:\\S{43}", done.stdout))) == 2
    terminal = Terminal(ready.proxy("setup", "demo"))
    terminal.read_until(r"Pin the new key\? \[y/N\]")
    terminal.type("\n")
    assert terminal.wait() == 0
    assert "nothing was changed" in terminal.text
    assert setup(ready, "demo", "--dry-run").returncode == 0
    assert state(ready.laptop) == before
    done = setup(ready, "demo", "--yes")
    assert done.returncode == 0
    assert "SHA256:" in done.stdout
    assert "SHA256:" not in setup(ready, "demo", "--yes").stdout
    assert state(ready.laptop) != before


def test_dry_run_writes_nothing_anywhere(ready: Loopback) -> None:
    before = state(ready.laptop), state(ready.home)
    done = setup(ready, "demo", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "+Host jlab+demo jlab+demo+*" in done.stdout
    assert "nothing was changed" in done.stdout
    assert (state(ready.laptop), state(ready.home)) == before
    assert not (ready.laptop / "jlab").exists()


def test_dry_run_of_remove(ready: Loopback) -> None:
    setup(ready, "demo", "--yes")
    before = state(ready.laptop)
    done = setup(ready, "demo", "--remove", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-Host jlab+demo jlab+demo+*" in done.stdout
    assert state(ready.laptop) == before


def test_a_port_of_another_cluster(ready: Loopback) -> None:
    ready.add_alias("other", ready.port)
    port = str(free_port())
    setup(ready, "demo", "--yes", "--port", port)
    before = ready.config.read_bytes()
    done = setup(ready, "other", "--yes", "--port", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"jlab-proxy: {messages.port_of_another_block(int(port), 'jlab+demo')}\n"
    )
    assert ready.config.read_bytes() == before


def test_a_command_that_submits(ready: Loopback) -> None:
    """It is the cluster that keeps it: for all sessions, or for one."""
    done = setup(ready, "demo", "--yes", "--submit", "sbatch 'my job.sh' $A")
    assert "when you connect and have no job, demo runs: sbatch 'my job.sh' $A\n" in done.stdout
    setup(ready, "demo", "--session", "gpu", "--yes", "--submit", "sbatch gpu.sh")
    kept = ready.home / ".jlab"
    assert (kept / "submit").read_text() == "sbatch 'my job.sh' $A\n"
    assert (kept / "submit-gpu").read_text() == "sbatch gpu.sh\n"
    assert setup(ready, "demo", "--yes").returncode == 0
    assert (kept / "submit").exists(), "nothing was said of it"
    done = setup(ready, "demo", "--yes", "--submit", "")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (kept / "submit").exists()
    done = setup(ready, "demo", "--yes", "--submit", "sbatch a\nsbatch b")
    assert done.returncode == 2
    assert done.stderr == f"jlab-proxy: {messages.submit_is_no_line()}\n"


def test_a_file_system_without_locks(ready: Loopback) -> None:
    """The lock keeps two setups apart; one alone does without."""
    keys.make_directory(Paths(str(ready.config), is_default=False))
    (ready.laptop / "jlab" / "lock").mkdir()
    done = setup(ready, "demo", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert setting(ready, "jlab+demo", "user") == ready.user


def test_a_directory_of_the_user_s_own_is_refused_and_kept(ready: Loopback) -> None:
    """Beside a config file that -F names: `~/jlab`, where a venv may be, beside `~/config`."""
    own = ready.laptop / "jlab"
    (own / "bin").mkdir(parents=True, mode=0o755)
    own.chmod(0o775)
    names = ("connect.py", "lock", "seen", "known_hosts", "open-8888", "login-1", "bin/activate")
    for name in names:
        (own / name).write_text(f"my own {name}\n")
    before, mode = state(ready.laptop), own.stat().st_mode
    done = setup(ready, "demo", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"jlab-proxy: {own} is not empty, and was not made by jlab-proxy, which keeps its files "
        "there: move it away, or keep the file of -F in another directory\n"
    )
    assert finished(ready.proxy("ls", "demo")).returncode == 0, "it needs nothing there"
    assert (state(ready.laptop), own.stat().st_mode) == (before, mode)
    assert sorted(path.name for path in own.iterdir()) == sorted({*names[:-1], "bin"})
    own.rename(ready.laptop / "moved")
    assert setup(ready, "demo", "--yes").returncode == 0


def test_without_a_terminal_it_needs_yes(ready: Loopback) -> None:
    before = ready.config.read_bytes()
    done = setup(ready, "demo")
    assert done.returncode == 1
    assert "type --yes" in done.stderr
    assert ready.config.read_bytes() == before


@pytest.mark.parametrize(("answer", "code"), [("n", 0), ("y", 0), ("\x03", 130)])
def test_at_a_terminal_it_asks(ready: Loopback, answer: str, code: int) -> None:
    before = ready.config.read_bytes()
    terminal = Terminal(ready.proxy("setup", "demo"))
    assert "+Host jlab+demo jlab+demo+*" in terminal.read_until(r"\? \[Y/n\]: ")
    terminal.type(f"{answer}\n")
    assert terminal.wait() == code
    assert "Traceback" not in terminal.text
    assert (ready.config.read_bytes() == before) is (answer != "y")
    keys = (ready.home / ".jlab" / "authorized_keys").read_text()
    assert bool(keys) is (answer == "y"), "no key is exchanged without consent"


def test_mux_shares_the_connection_to_the_job(ready: Loopback) -> None:
    ready.wait_for_session(ready.start_session())
    setup(ready, "demo", "--yes", "--mux", "--port", str(free_port()))
    assert setting(ready, "jlab+demo", "controlmaster") == "auto"
    for _ in range(2):
        done = subprocess.run(
            ready.ssh("jlab+demo", "echo $PPID"), capture_output=True, text=True, check=True
        )
        parent = done.stdout
    assert parent == done.stdout
    assert len(list(ready.laptop.glob("jlab/job-*"))) == 1
    close = subprocess.run(ready.proxy("close", "demo"), capture_output=True, text=True, check=True)
    assert "demo: closed the shared connection to a session\n" in close.stdout
    assert list(ready.laptop.glob("jlab/job-*")) == []


def test_a_control_path_of_the_alias_is_respected(ready: Loopback) -> None:
    own = f"Host demo\n    ControlMaster auto\n    ControlPath {ready.root}/own-%C\n"
    ready.config.write_text(own + ready.config.read_text())
    done = setup(ready, "demo", "--yes")
    assert done.returncode == 0, done.stderr
    assert setting(ready, "jlab+demo", "proxycommand").endswith("--no-share")
    assert list(ready.laptop.glob("jlab/login-*")) == []


def test_global_options_of_the_user_do_not_reach_the_block(ready: Loopback) -> None:
    ready.wait_for_session(ready.start_session())
    everywhere = (
        f"Host *\n    Port 2222\n    ControlMaster auto\n    ControlPath {ready.root}/all-%C\n"
        "    ConnectTimeout 3\n    LogLevel ERROR\n"
    )
    ready.config.write_text(ready.config.read_text() + everywhere)
    assert setup(ready, "demo", "--yes", "--port", str(free_port())).returncode == 0
    done = finished(ready.ssh("jlab+demo", "echo here"))
    assert (done.stdout, done.stderr) == ("here\n", "")


def test_two_setups_at_once(ready: Loopback) -> None:
    ready.add_alias("other", ready.port)
    before = ready.config.read_bytes()
    ports = {"demo": str(free_port()), "other": str(free_port())}
    both = [
        subprocess.Popen(
            ready.proxy("setup", alias, "--yes", "--port", port),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for alias, port in ports.items()
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    for alias, port in ports.items():
        assert setting(ready, f"jlab+{alias}", "localforward").startswith(f"[127.0.0.1]:{port} ")
    pinned = (ready.laptop / "jlab" / "known_hosts").read_text()
    assert len(pinned.splitlines()) == 2
    keys = (ready.home / ".jlab" / "authorized_keys").read_text()
    assert len(set(keys.splitlines())) == len(keys.splitlines()) == 1
    for alias in ports:
        assert setup(ready, alias, "--remove", "--yes").returncode == 0
    assert ready.config.read_bytes() == before


@pytest.fixture(scope="module")
def shared() -> Iterator[Loopback]:
    """A site for tests that leave it as it was."""
    with Loopback() as made:
        subprocess.run(made.node("setup"), env=made.env, check=True, stdout=subprocess.DEVNULL)
        yield made


@pytest.mark.parametrize("name", FILES)
def test_remove_undoes_setup_in_files_as_people_have_them(shared: Loopback, name: str) -> None:
    """Byte for byte; what the file says of all hosts must not keep ssh from the login node here."""
    own = shared.config.read_text()
    entry = f"{own}    ProxyJump none\n    ProxyCommand none\n    ControlPath none\nMatch all\n"
    theirs = FILES[name].replace(b"@DIR@", str(shared.laptop).encode())
    (shared.laptop / "included").write_text("Host included\n    User carol\n")
    try:
        before = entry.encode() + theirs
        shared.config.write_bytes(before)
        assert setup(shared, "demo", "--yes", "--port", str(free_port())).returncode == 0
        during = shared.config.read_bytes()
        assert before in during.replace(b"\r\n", b"\n") or before in during
        assert b"Host jlab+demo" in during
        assert setup(shared, "demo", "--remove", "--yes").returncode == 0
        assert shared.config.read_bytes() == before
    finally:
        shared.config.write_text(own)


def test_remove_of_a_block_that_was_edited_by_hand(ready: Loopback) -> None:
    before = ready.config.read_bytes()
    setup(ready, "demo", "--yes", "--port", str(free_port()))
    text = ready.config.read_text()
    edited = text.replace("ServerAliveInterval 15", "ServerAliveInterval 5\n    Compression yes")
    ready.config.write_text(edited.replace("    ConnectTimeout 0\n", "# not for me\n\n"))
    assert edited != text
    assert setup(ready, "demo", "--remove", "--yes").returncode == 0
    assert ready.config.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["", "Demo", "de mo", "-oProxyCommand=x", "a+b+c", "jlab+demo", "$(x)", "a/b"]
)
def test_a_bad_name(ready: Loopback, name: str) -> None:
    before = state(ready.laptop)
    done = setup(ready, "--yes", "--", name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.match(r"jlab-proxy: '.*' cannot be (an alias|a session's name): ", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert state(ready.laptop) == before


def refuses(site: Loopback, code: int, *sentences: str, alias: str = "demo") -> None:
    """setup fails with just these sentences, and writes nothing on the laptop's config."""
    before = site.config.read_bytes()
    done = setup(site, alias, "--yes")
    assert done.returncode == code, done.stderr
    for sentence in sentences:
        assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert site.config.read_bytes() == before
    assert not (site.laptop / "jlab" / "known_hosts").exists()


def test_an_alias_that_ssh_does_not_know(ready: Loopback) -> None:
    refuses(ready, 1, "jlab-proxy: ssh knows no host nowhere: ", alias="nowhere")


def test_no_connection(ready: Loopback) -> None:
    ready.add_alias("down", free_port())
    refuses(
        ready, 255, "Connection refused", "no connection to down: ",
        alias="down",
    )  # fmt: skip


def test_a_missing_cluster_side(site: Loopback) -> None:
    refuses(site, 69, "jlab-node is not set up on demo: log in there and type pip install")


def answer(site: Loopback, text: str, code: int = 0) -> None:
    """Let the cluster side say this."""
    (site.home / ".jlab" / "jlab-node").write_text(f"cat <<'EOF'\n{text}\nEOF\nexit {code}\n")


def test_a_newer_cluster_side(ready: Loopback) -> None:
    answer(ready, '{"format": 2, "version": "9.0"}')
    refuses(ready, 1, f"jlab-proxy: {messages.cluster_is_newer('demo')}\n")


def test_an_older_cluster_side(ready: Loopback) -> None:
    answer(ready, "Error: No such option: --authorize", code=2)
    refuses(ready, 1, f"jlab-proxy: {messages.cluster_is_older('demo')}\n")


def test_a_cluster_side_that_talks_nonsense(ready: Loopback) -> None:
    answer(ready, "Welcome to the cluster")
    refuses(ready, 1, f"jlab-proxy: {messages.no_answer('demo')}\n")


ABOUT = {
    "format": 1,
    "user": "alice",
    "socket_dir": "/tmp/jlab-alice",
    "host_key": "ssh-ed25519 " + "A" * 68,
}


def test_what_sessions_there_will_lack(ready: Loopback) -> None:
    answer(ready, json.dumps({**ABOUT, "jupyter": None, "sshd": None}))
    done = setup(ready, "demo", "--yes")
    assert done.returncode == 0, done.stderr
    assert "note: jupyter-lab is not on the PATH of demo" in done.stdout
    assert "note: demo has no sshd" in done.stdout


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("user", "alice\nProxyCommand reboot"),
        ("user", "-x"),
        ("socket_dir", "/tmp/a b"),
        ("socket_dir", "relative"),
        ("host_key", "ssh-ed25519 AAAA\n* ssh-rsa x"),
        ("host_key", None),
        ("user", ["list"]),
    ],
)
def test_a_hostile_cluster_side(ready: Loopback, key: str, value: object) -> None:
    """What it says would stand in ssh's config and known_hosts."""
    answer(ready, json.dumps({**ABOUT, key: value}))
    refuses(ready, 1, f"jlab-proxy: {messages.invalid_answer()}\n")


def test_half_a_block(ready: Loopback) -> None:
    text = ready.config.read_text()
    ready.config.write_text("# >>> jlab+demo >>>\nHost x\n" + text)
    refuses(ready, 1, "jlab-proxy: line 1 of the ssh config is half of a pair of jlab-remote's")


def test_a_read_only_config(ready: Loopback) -> None:
    ready.config.chmod(0o400)
    refuses(ready, 1, f"jlab-proxy: {ready.config} is read-only: `chmod u+w")


def test_a_directory_that_cannot_be_made(ready: Loopback) -> None:
    (ready.laptop / "jlab").touch()  # stops root as well
    refuses(ready, 1, f"jlab-proxy: cannot make {ready.laptop}/jlab: File exists")


def test_a_config_that_ssh_refuses(ready: Loopback) -> None:
    ready.config.write_text("Bogus option\n" + ready.config.read_text())
    refuses(ready, 1, "jlab-proxy: ssh does not accept its config file: ")
