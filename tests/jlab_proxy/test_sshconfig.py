"""The block in ~/.ssh/config: in files as people have them, on a real disk, read by real ssh."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

from jlab_proxy import target
from jlab_proxy.errors import JlabError
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import document, text_file
from jlab_proxy.ssh_config.document import Forward
from tests import acl

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

# Files as people have them. @DIR@ is the directory of the file, where `included` is.
FILES = {
    "empty": b"",
    "a newline": b"\n",
    "one host": b"Host gricad\n    HostName access.example.org\n    User alice\n",
    "no final newline": b"Host gricad\n    User alice",
    "blank lines at both ends": b"\n\n  \nHost gricad\n  User alice\n\n\n",
    "CRLF": b"# mine\r\n\r\nHost gricad\r\n\tUser alice\r\n\tPort 2222\r\n",
    "CRLF without a final one": b"Host gricad\r\n\tUser alice",
    "LF and CRLF": b"Host gricad\n\tUser alice\r\n\r\nHost other\n\tPort 23\r\n",
    "include": b"Include @DIR@/included\n\nHost *\n    ServerAliveInterval 60\n",
    "match": (
        b'Match originalhost gricad exec "true"\n    User alice\n'
        b"Match host other,*.example.org user bob\n    Port 2022\nMatch all\n    Compression yes\n"
    ),
    "match final": b"Host gricad\n    User alice\nMatch final host gricad\n    Port 2222\n",
    "only comments": b"# nothing here yet\n#Host gricad\n",
    "tabs and equals signs": b"Host=gricad\n\tUser\t=\talice\n\t\n\tIdentityFile = ~/k\n",
    "UTF-8": "# clé de café ☕\nHost gricad\n    IdentityFile ~/clé-é\n".encode(),
    "latin-1": b"# cl\xe9 de caf\xe9\nHost gricad\n    IdentityFile ~/cl\xe9\n",
    "UTF-8 and latin-1": b"# \xc3\xa9 \xe9 \xed\xb3\xa9\nHost gricad\n    User alice\n",
    "Host * first": (
        b"Host *\n    User bob\n    Port 2222\n    ProxyJump bastion\n    IdentityFile ~/mine\n"
        b"    ConnectTimeout 3\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n"
        b"    ControlMaster auto\n    ControlPath ~/.ssh/%C\n    ControlPersist yes\n"
        b"\nHost gricad\n    HostName access.example.org\n"
    ),
    "Host * with a domain": b"Host *\n    HostName %h.example.org\n",
    "global options first": b"User bob\nPort 2222\nProxyCommand nc %h %p\nForwardAgent yes\n",
    "other tools' markers": (
        b"# >>> conda initialize >>>\n# <<< conda initialize <<<\n"
        b"# --- START CODER VSCODE x ---\nHost gricad\n  User alice\n# --- END CODER VSCODE x ---\n"
        b"# jlab+demo is what I use; # >>> jlab+demo >>> is its marker\n"
    ),
    "odd white space": b"# page\x0c \x0b \x1c \xc2\x85 \xe2\x80\xa8 end\nHost a\n  User b\x0c\n",
    "another block of ours": (
        b"# >>> jlab+other >>> written by jlab-proxy setup\nHost jlab+other jlab+other+*\n"
        b"    User carol\nMatch all\n# <<< jlab+other <<<\n\nHost gricad\n    User alice\n"
    ),
    "another block of ours, further down": (
        b"Host gricad\n    User alice\n\n# >>> jlab+other >>>\nHost jlab+other\n    User carol\n"
        b"# <<< jlab+other <<<"
    ),
}
INCLUDED = b"Host gricad\n    User included\n"
HOSTS = ("gricad", "other", "x.example.org", "jlab+other", "jlab+demo2")

DEMO = target.parse("demo")

each_file = pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())

WRITE_ON_A_FULL_DISK = """
import resource, sys
from jlab_proxy import errors
from jlab_proxy.ssh_config import text_file
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
try:
    text_file.write(sys.argv[1], "new" * 4096)
except errors.JlabError as error:
    sys.exit(str(error))
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""

# A ProxyCommand that only tells how it was started.
PROXY = """\
#!/bin/sh
printf '%s\\n' "$@" > "${0%/*}/started"
"""


def block(
    directory: Path,
    where: str = "demo",
    *,
    port: int = 8888,
    proxy: str = "/opt/jlab/bin/jlab-proxy",
    share: bool = True,
    mux: bool = False,
) -> document.Block:
    """A block for a config file in that directory."""
    return document.Block(
        target=target.parse(where),
        user="alice",
        port=port,
        socket="/tmp/jlab-alice/lab.sock",
        proxy=[proxy],
        paths=Paths(str(directory / "config"), is_default=False),
        share=share,
        mux=mux,
    )


def config_file(directory: Path, content: bytes) -> Path:
    """That file on the disk, with what it includes."""
    (directory / "included").write_bytes(INCLUDED)
    path = directory / "config"
    path.write_bytes(content.replace(b"@DIR@", bytes(directory)))
    return path


def merged_into(path: Path, new: document.Block) -> None:
    """What `setup` does to the file."""
    text_file.write(str(path), document.merge(text_file.read(str(path)), new))


def as_ssh_reads(path: Path, host: str, shell: str = "/bin/sh") -> dict[str, list[str]]:
    """What real ssh makes of the file for the host: the values of each option, in order."""
    done = subprocess.run(
        ["ssh", "-T", "-G", "-F", str(path), host],
        env={**os.environ, "SHELL": shell},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


@each_file
@pytest.mark.parametrize("mode", [0o600, 0o644], ids=oct)
@pytest.mark.parametrize("linked", [False, True], ids=["file", "link"])
def test_merge_and_remove_give_the_same_bytes(
    tmp_path: Path, content: bytes, mode: int, *, linked: bool
) -> None:
    real = config_file(tmp_path, content)
    original = real.read_bytes()
    path = real
    if linked:
        (tmp_path / "dotfiles").mkdir()
        real = path.rename(tmp_path / "dotfiles/ssh_config")
        path.symlink_to("dotfiles/ssh_config")
    real.chmod(mode)

    merged_into(path, block(tmp_path))
    merged = real.read_bytes()
    assert merged.startswith(b"# >>> jlab+demo >>>")
    assert merged.endswith(original)
    merged_into(path, block(tmp_path))
    assert real.read_bytes() == merged

    text_file.write(str(path), document.remove(text_file.read(str(path)), "jlab+demo"))
    assert real.read_bytes() == original
    assert real.stat().st_mode & 0o7777 == mode
    assert path.is_symlink() is linked
    assert not list(tmp_path.rglob(".*"))


@each_file
def test_real_ssh_reads_the_block_and_all_else_as_before(tmp_path: Path, content: bytes) -> None:
    path = config_file(tmp_path, content)
    before = [as_ssh_reads(path, host) for host in HOSTS]
    merged_into(path, block(tmp_path))
    assert [as_ssh_reads(path, host) for host in HOSTS] == before

    directory = f"{tmp_path}/jlab"
    proxy = "/opt/jlab/bin/jlab-proxy connect '%h'"
    for host, port in (("jlab+demo", " --port 8888"), ("jlab+demo+gpu", "")):
        found = as_ssh_reads(path, host)
        assert found["proxycommand"][0].replace(host, "%h") == (
            f"{proxy}{port} -F {tmp_path}/config"
        )
        assert "proxyjump" not in found
        assert (found["hostname"], found["user"], found["port"]) == ([host], ["alice"], ["22"])
        assert found["identityfile"][0] == f"{directory}/id"
        assert found["identitiesonly"] == ["yes"]
        assert found["userknownhostsfile"] == [f"{directory}/known_hosts"]
        assert found["stricthostkeychecking"][0] in ("yes", "true")
        assert found["connecttimeout"][0] in ("0", "none")
        assert found["serveraliveinterval"] == ["15"]
        assert found["controlmaster"] == ["false"]
        assert found.get("controlpath", ["none"]) == ["none"]


def test_block_has_the_line_ends_of_the_file(tmp_path: Path) -> None:
    for content in (FILES["CRLF"], FILES["CRLF without a final one"]):
        path = config_file(tmp_path, content)
        merged_into(path, block(tmp_path))
        assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")
    assert "\r" not in document.merge("Host a\n", block(tmp_path))


@each_file
@pytest.mark.parametrize("place", ["top", "bottom"])
def test_older_block_is_replaced(tmp_path: Path, content: bytes, place: str) -> None:
    path = config_file(tmp_path, content)
    rest = path.read_bytes()
    if place == "bottom" and rest and not rest.endswith(b"\n"):
        rest += b"\n"
    older = (
        b"# >>> jlab+demo >>> written by jlab-proxy 0.0.1\nHost jlab+demo\n    User bob\n"
        b"    LocalForward 9999 /tmp/x.sock\n# <<< jlab+demo <<<\n\n"
    )
    path.write_bytes(older + rest if place == "top" else rest + older)
    merged_into(path, block(tmp_path))
    new = document.merge(text_file.read(str(path)), block(tmp_path))
    assert new.encode("utf-8", "surrogateescape") == path.read_bytes()
    assert path.read_bytes().startswith(b"# >>> jlab+demo >>>")
    assert b"User bob\n    LocalForward" not in path.read_bytes()
    assert document.remove(new, "jlab+demo").encode("utf-8", "surrogateescape") == rest


def test_block_keeps_its_place_among_ours_at_the_top(tmp_path: Path) -> None:
    text = ""
    for where in ("c", "b", "a"):
        text = document.merge(text, block(tmp_path, where))
    text += "Host gricad\n"
    again = document.merge(text, block(tmp_path, "b", port=9000))
    assert again == text.replace(
        document.render(block(tmp_path, "b")), document.render(block(tmp_path, "b", port=9000))
    )
    assert again != text


@pytest.mark.parametrize("first", ["a", "b"])
def test_two_blocks_go_one_by_one_in_any_order(tmp_path: Path, first: str) -> None:
    original = "Host gricad\n    User alice"
    text = original
    for where in ("a", "b"):
        text = document.merge(text, block(tmp_path, where))
    assert document.hosts(text) == {"jlab+a", "jlab+b"}
    text = document.remove(text, f"jlab+{first}")
    assert document.hosts(text) == {"jlab+a", "jlab+b"} - {f"jlab+{first}"}
    for where in ("a", "b"):
        text = document.remove(text, f"jlab+{where}")
    assert text == original


def test_remove_takes_every_block_of_the_host_and_no_other(tmp_path: Path) -> None:
    mine, other = document.render(block(tmp_path)), document.render(block(tmp_path, "demo+gpu"))
    text = f"{mine}\nHost x\n{mine}{other}\n{mine}Host y\n"
    assert document.remove(text, "jlab+demo") == f"Host x\n{other}\nHost y\n"
    assert document.remove(text, "jlab+none") == text


@pytest.mark.parametrize(
    "steps",
    [
        ["demo", "demo+gpu"],
        ["demo+gpu", "demo"],
        ["demo+gpu", "demo+cpu", "demo"],
        ["demo+gpu", "demo", "demo+cpu"],
        ["demo+gpu", "other", "demo"],
        ["other", "demo+gpu", "demo"],
        ["demo+gpu", "other+gpu", "demo", "other"],
        ["demo", "other", "demo+gpu", "demo"],
    ],
    ids=" ".join,
)
def test_block_of_a_session_comes_before_the_one_of_its_alias(
    tmp_path: Path, steps: list[str]
) -> None:
    text = "Host gricad\n"
    port_of = {f"jlab+{where}": 20001 + number for number, where in enumerate(sorted(set(steps)))}
    for where in steps:
        text = document.merge(text, block(tmp_path, where, port=port_of[f"jlab+{where}"]))
    assert sorted(re.findall(r"(?m)^# >>> (\S+)", text)) == sorted(port_of), "each once"
    assert re.findall(r"(?m)^Host gric.*", text) == ["Host gricad"]
    path = config_file(tmp_path, text.encode())
    for host, port in port_of.items():
        proxy = as_ssh_reads(path, host)["proxycommand"][0]
        assert f" --port {port} " in proxy


def test_block_of_a_session_whose_last_newline_is_gone(tmp_path: Path) -> None:
    """As some editors leave a file."""
    gpu = document.merge("", block(tmp_path, "demo+gpu", port=8889)).rstrip("\n")
    text = document.merge(gpu, block(tmp_path))
    assert text.startswith(f"{gpu}\n")
    assert document.ports(text) == {"jlab+demo": 8888, "jlab+demo+gpu": 8889}
    assert document.remove(text, "jlab+demo") == f"{gpu}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(["demo2"], ["demo", "demo2"], id="above a name that begins so"),
        pytest.param(
            ["other", "Host x", "demo+gpu"],
            ["demo+gpu", "demo", "other", "Host x"],
            id="its session comes with it",
        ),
        pytest.param(
            ["demo+a", "Host x", "demo+b", "Host y", "demo+c"],
            ["demo+a", "demo+b", "demo+c", "demo", "Host x", "Host y"],
            id="all of its sessions",
        ),
        pytest.param(["# mine", "demo+a"], ["demo+a", "demo", "# mine"], id="a line above them"),
        pytest.param(["demo", "demo+a"], ["demo+a", "demo"], id="a session below it"),
        pytest.param(["demo", "Host x", "demo"], ["demo", "Host x"], id="a second one goes"),
        pytest.param(["demo", "demo"], ["demo"], id="a second one goes at once"),
    ],
)
def test_merge_puts_a_new_block_in_its_place(
    tmp_path: Path, before: list[str], after: list[str]
) -> None:
    """To the very top, but for the sessions of the same cluster."""

    def text_of(parts: list[str]) -> str:
        return "".join(
            f"{each}\n" if " " in each else document.render(block(tmp_path, each)) + "\n"
            for each in parts
        )

    merged = document.merge(text_of(before), block(tmp_path))
    assert merged == text_of(after)
    assert document.merge(merged, block(tmp_path)) == merged


@pytest.mark.parametrize(
    ("parts", "at_top"),
    [
        pytest.param(["demo", "Host x"], True, id="it is"),
        pytest.param(["other", "demo+gpu", "demo"], True, id="below others of ours"),
        pytest.param(["demo", "demo2"], True, id="above a name that begins so"),
        pytest.param(["Host x", "demo"], False, id="below a host"),
        pytest.param(["other", "Host x", "demo"], False, id="below a host below ours"),
        pytest.param(["demo", "demo+gpu"], False, id="above its own session"),
        pytest.param(["demo", "Host x", "demo+gpu"], False, id="far above its own session"),
        pytest.param(["other"], False, id="it is not there"),
        pytest.param([], False, id="nothing is there"),
    ],
)
def test_is_at_top_only_below_blocks_of_ours(
    tmp_path: Path, parts: list[str], *, at_top: bool
) -> None:
    blocks = {each: document.render(block(tmp_path, each)) for each in parts if " " not in each}
    text = "".join(blocks.get(each, f"{each}\n") for each in parts)
    assert document.is_at_top(text, "jlab+demo") is at_top
    assert document.block_of(text, "jlab+demo") == blocks.get("demo", "")


def test_block_of_a_session_is_for_that_host_alone(tmp_path: Path) -> None:
    path = config_file(tmp_path, b"")
    merged_into(path, block(tmp_path, "demo+gpu"))
    assert "proxycommand" in as_ssh_reads(path, "jlab+demo+gpu")
    assert "proxycommand" not in as_ssh_reads(path, "jlab+demo")


@pytest.mark.parametrize("mux", [False, True])
def test_mux_shares_the_connection_to_the_job(tmp_path: Path, *, mux: bool) -> None:
    # What the user says of all hosts is not in the way, and helps neither.
    path = config_file(tmp_path, b"" if mux else FILES["Host * first"])
    merged_into(path, block(tmp_path, mux=mux))
    found = as_ssh_reads(path, "jlab+demo")
    assert found["controlmaster"] == ["auto" if mux else "false"]
    if mux:
        assert found["controlpath"][0].startswith(f"{tmp_path}/jlab/job-")
        assert found["controlpersist"] == ["600"]


def test_users_own_sharing_is_passed_on_to_connect(tmp_path: Path) -> None:
    assert " --no-share\n" in document.render(block(tmp_path, share=False))
    assert "--no-share" not in document.render(block(tmp_path))


def test_default_config_file_is_named_nowhere() -> None:
    made = document.Block(
        target=DEMO,
        user="alice",
        port=8888,
        socket="/tmp/jlab-alice/lab.sock",
        proxy=["jlab-proxy"],
        paths=Paths("/home/alice/.ssh/config", is_default=True),
        share=True,
        mux=True,
    )
    text = document.render(made)
    assert "/home/alice" not in text
    assert "-F" not in text
    assert "    IdentityFile ~/.ssh/jlab/id\n" in text
    assert "    UserKnownHostsFile ~/.ssh/jlab/known_hosts\n" in text


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed"),
        )
        for name in ("bash", "dash", "zsh", "ksh", "tcsh", "fish")
    ],
)
def test_only_a_free_port_is_forwarded(tmp_path: Path, shell: str) -> None:
    path = config_file(tmp_path, b"")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
        merged_into(path, block(tmp_path, port=port))
        program = str(shutil.which(shell))
        free = as_ssh_reads(path, "jlab+demo", shell=program)
        assert free["localforward"] == [f"[127.0.0.1]:{port} /tmp/jlab-alice/lab.sock"]
        assert "localforward" not in as_ssh_reads(path, "jlab+demo+gpu", shell=program)
        bound.listen()
        assert "localforward" not in as_ssh_reads(path, "jlab+demo", shell=program)


@pytest.mark.parametrize("name", ["two words", "100%h", "$HOME", "a;b&c", "#", "é"])
def test_real_ssh_starts_jlab_proxy_from_an_odd_place(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    proxy = directory / "jlab-proxy"
    proxy.write_text(PROXY)
    proxy.chmod(0o755)
    path = config_file(directory, b"")
    merged_into(path, block(directory, proxy=str(proxy)))
    done = subprocess.run(
        ["ssh", "-F", str(path), "jlab+demo+gpu", "true"],
        env={**os.environ, "SHELL": "/bin/sh"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255
    assert (directory / "started").exists(), done.stderr
    words = ["connect", "jlab+demo+gpu", "-F", str(path)]
    assert (directory / "started").read_text().splitlines() == words


@pytest.mark.parametrize("name", ["two words", "100%h", "#", "é"])
def test_real_ssh_finds_our_files_in_an_odd_place(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    path = config_file(directory, b"")
    merged_into(path, block(directory))
    found = as_ssh_reads(path, "jlab+demo")
    # ssh shows some paths as they are written, and writes %% for a percent sign.
    assert found["identityfile"][0].replace("%%", "%") == f"{directory}/jlab/id"
    assert found["userknownhostsfile"][0].replace("%%", "%") == f"{directory}/jlab/known_hosts"


@pytest.mark.parametrize("name", ["it's", 'a"b', "a\nb", "a\x1bb"], ids=repr)
def test_path_that_the_file_cannot_hold_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(JlabError, match="ssh's config file cannot hold this path: ") as caught:
        document.render(block(tmp_path, proxy=f"/opt/{name}/jlab-proxy"))
    assert str(caught.value).isprintable()
    with pytest.raises(JlabError, match="ssh's config file cannot hold this path: "):
        document.render(block(tmp_path / name))


OPEN, CLOSE = "# >>> jlab+demo >>> written by jlab-proxy", "# <<< jlab+demo <<<"


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        pytest.param(["Host a", OPEN, "Host x"], 2, id="no end"),
        pytest.param(["Host a", "  User b", CLOSE], 3, id="no beginning"),
        pytest.param([OPEN, "Host x", OPEN, CLOSE], 3, id="two beginnings"),
        pytest.param([OPEN, CLOSE, "", CLOSE], 4, id="two ends"),
        pytest.param([CLOSE, OPEN], 1, id="the wrong way round"),
        pytest.param([OPEN, "# <<< jlab+other <<<"], 2, id="the end of another"),
        pytest.param([OPEN, "# >>> jlab+other >>>", "# <<< jlab+other <<<", CLOSE], 2, id="nested"),
        pytest.param([OPEN, "# <<< jlab+demo+gpu <<<"], 2, id="the end of a session"),
        pytest.param([OPEN, "# <<< jlab+demo >>>", CLOSE], 2, id="mixed arrows"),
        pytest.param(["", "# >>> jlab+demo <<<", CLOSE], 2, id="mixed arrows at the beginning"),
        pytest.param([OPEN, "Host x", f"  {CLOSE}"], 1, id="an indented end"),
        pytest.param([OPEN, "Host x", f"{CLOSE}x"], 1, id="an end with a letter too many"),
        pytest.param([f"#{OPEN}", "Host x", CLOSE], 3, id="a beginning commented out"),
        pytest.param([OPEN, "Host x", f"{CLOSE}\r", "Host y", OPEN], 5, id="after a whole one"),
        pytest.param(["# page\x0cbreak \x85 \u2028", OPEN], 2, id="after odd white space"),
    ],
)
def test_markers_that_do_not_pair_are_refused_by_line(
    tmp_path: Path, lines: list[str], number: int
) -> None:
    for text in ("\n".join(lines), "\n".join(lines) + "\n"):
        for edit in (
            lambda text: document.merge(text, block(tmp_path)),
            lambda text: document.remove(text, "jlab+demo"),
            document.hosts,
            document.ports,
        ):
            with pytest.raises(JlabError, match=rf"^line {number} of the ssh config is half of"):
                edit(text)


def test_hand_edited_block_is_replaced_and_removed_as_a_whole(tmp_path: Path) -> None:
    """What a person adds between the markers is ours; white space and notes do no harm."""
    text = (
        "Host a\n# >>> jlab+demo >>> by hand\t\n   Host jlab+demo\n\n\tLocalForward 9000 /x\n"
        "# >>> a note of mine >>>\n    # >>> jlab+demo >>> indented, so a note as well\n"
        "# <<< jlab+demo <<<  \nHost b\n"
    )
    assert document.ports(text) == {"jlab+demo": 9000}
    assert document.remove(text, "jlab+demo") == "Host a\nHost b\n"
    assert document.merge(text, block(tmp_path)) == (
        document.render(block(tmp_path)) + "\nHost a\nHost b\n"
    )


def test_lines_are_what_ssh_takes_for_lines() -> None:
    """A form feed or a Unicode line separator begins no line, so no marker follows it."""
    for separator in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        text = f"# a note:{separator}{OPEN}\nHost x\n# the other:{separator}{CLOSE}\n"
        assert document.hosts(text) == set(), ascii(separator)


def test_ports_reads_the_forward_of_each_block(tmp_path: Path) -> None:
    assert document.ports("Host x\n    LocalForward 8888 /x\n") == {}
    text = "Host x\n    LocalForward 8888 /x\n"
    for where, port in (("a", 8888), ("a+gpu", 9000), ("b", 65535)):
        text = document.merge(text, block(tmp_path, where, port=port))
    text += f"{OPEN}\nHost jlab+demo\n{CLOSE}\n"
    assert document.ports(text) == {"jlab+a": 8888, "jlab+a+gpu": 9000, "jlab+b": 65535}
    assert document.forwards(text)["jlab+a+gpu"] == Forward(9000, "/tmp/jlab-alice/lab.sock")
    without = text.replace("LocalForward 127.0.0.1:9000", "# 9000")
    assert document.ports(without) == {"jlab+a": 8888, "jlab+b": 65535}
    assert document.ports(text.replace("\n", "\r\n")) == document.ports(text)
    as_before = text.replace("LocalForward 127.0.0.1:", "LocalForward ")
    assert document.ports(as_before) == document.ports(text), "blocks of 0.1.0"


@pytest.mark.parametrize(
    ("taken", "host", "expected"),
    [
        ({}, "jlab+a", 8888),
        ({"b": 8888}, "jlab+a", 8889),
        ({"b": 8889}, "jlab+a", 8888),
        ({"b": 8888, "c": 8889, "d": 8891}, "jlab+a", 8890),
        ({"a": 9000, "b": 8888}, "jlab+a", 9000),
        ({"a": 8888}, "jlab+a+gpu", 8889),
        ({"a+gpu": 8888}, "jlab+a", 8889),
    ],
    ids=str,
)
def test_unused_port_is_that_of_the_block_or_the_first_free(
    tmp_path: Path, taken: dict[str, int], host: str, expected: int
) -> None:
    text = "Host gricad\n    LocalForward 8888 localhost:8888\n"
    for where, port in taken.items():
        text = document.merge(text, block(tmp_path, where, port=port))
    assert document.unused_port(text, host, is_free=lambda _: True) == expected


def test_unused_port_is_free_on_this_computer(tmp_path: Path) -> None:
    text = document.merge("", block(tmp_path, "b", port=8889))
    taken = {8888, 8890}
    found = document.unused_port(text, "jlab+a", is_free=lambda port: port not in taken)
    assert found == 8891


def test_file_that_is_not_there_is_empty_and_made_private(tmp_path: Path) -> None:
    path = tmp_path / "config"
    assert text_file.read(str(path)) == ""
    before = os.umask(0)
    try:
        text_file.write(str(path), "Host a\n")
    finally:
        os.umask(before)
    assert path.read_text() == "Host a\n"
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o700], ids=oct)
def test_write_keeps_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "config"
    path.write_text("old")
    path.chmod(mode)
    text_file.write(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o7777 == mode


def test_write_keeps_the_access_control_list(tmp_path: Path) -> None:
    """The backup program that it lets in, say, reads the new file as well."""
    path = tmp_path / "config"
    path.write_text("old")
    acl.share(path, "access")
    text_file.write(str(path), "new")
    assert path.read_text() == "new"
    assert os.getxattr(path, "system.posix_acl_access") == acl.ACL


@pytest.mark.root("only root can give a file to another user")
def test_write_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("old")
    os.chown(path, NOBODY, NOBODY)
    text_file.write(str(path), "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


def test_write_through_links_to_a_file_still_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "link").symlink_to("dotfiles/config")
    (tmp_path / "config").symlink_to("link")
    text_file.write(str(tmp_path / "config"), "new")
    assert (tmp_path / "dotfiles/config").read_text() == "new"
    assert (tmp_path / "config").is_symlink()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o440], ids=oct)
def test_read_only_file_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "config"
    path.write_text("old")
    path.chmod(mode)
    with pytest.raises(JlabError, match=rf"^{path} is read-only: `chmod u\+w {path}`, then try"):
        text_file.write(str(path), "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_any_bytes_survive_read_and_write(tmp_path: Path) -> None:
    path = tmp_path / "config"
    content = bytes(range(256)) * 2 + "é\u2028\x85".encode()
    path.write_bytes(content)
    text_file.write(str(path), text_file.read(str(path)))
    assert path.read_bytes() == content


def test_file_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(JlabError, match=rf"^cannot read {tmp_path}: Is a directory$"):
        text_file.read(str(tmp_path))
    with pytest.raises(JlabError, match=r"^cannot write .*/gone/config: No such file or directory"):
        text_file.write(str(tmp_path / "gone/config"), "new")


def by_rename(path: Path, text: str) -> None:
    """As most editors save."""
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.replace(path)


def in_place(path: Path, text: str) -> None:
    """As others do, and people with `>`."""
    path.write_text(text)


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_edit_loses_nothing_that_is_saved_meanwhile(
    tmp_path: Path, save: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "config"
    for turn in range(25):
        path.write_text("# begin\n")
        unsaved = [f"# {turn}\n", f"# {turn} and more\n"]

        def change(text: str, unsaved: list[str] = unsaved) -> str:
            if unsaved:
                save(path, unsaved.pop(0))
            return text + "# ours\n"

        text_file.edit(str(path), change)
        assert path.read_text() == f"# {turn} and more\n# ours\n"


def test_edit_of_a_file_that_an_editor_has_emptied_and_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for turn in range(20):
        path.write_text("")
        editor = threading.Thread(target=write_once_something_is_beside, args=(path, f"# {turn}\n"))
        editor.start()
        text_file.edit(str(path), lambda text: text + "# ours\n")
        editor.join()
        assert path.read_text() == f"# {turn}\n# ours\n"


def write_once_something_is_beside(path: Path, text: str) -> None:
    """That is when the text of the file has been read."""
    while len(list(path.parent.iterdir())) < 2:
        pass
    path.write_text(text)


def test_edit_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("as it was\n")
    before = path.stat().st_ino
    text_file.edit(str(path), lambda text: text)
    assert path.stat().st_ino == before


def test_edit_of_a_file_that_never_rests(tmp_path: Path) -> None:
    path = tmp_path / "config"
    lines: list[str] = []

    def change(text: str) -> str:
        lines.append("# busy\n")
        path.write_text("".join(lines))
        return text + "# ours\n"

    with pytest.raises(JlabError, match=rf"^another program keeps changing {path}: try again"):
        text_file.edit(str(path), change)
    assert path.read_text() == "".join(lines)
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_a_read_only_directory(bound_by_modes: Path) -> None:
    path = bound_by_modes / "config"
    path.write_text("old")
    bound_by_modes.chmod(0o500)
    try:
        with pytest.raises(JlabError, match=rf"^cannot write {path}: Permission denied$"):
            text_file.write(str(path), "new")
    finally:
        bound_by_modes.chmod(0o700)
    assert path.read_text() == "old"


def test_full_disk_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", WRITE_ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"cannot write {path}: File too large\n")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def proxy_command(text: str, name: str) -> str:
    """What ssh before 9.6 gives to the shell for any name: "" where no block speaks for it."""
    hosts: list[str] = []
    for line in text.splitlines():
        if line.startswith("Host "):
            hosts = [each.strip('"') for each in re.findall(r'"[^"]*"|\S+', line[5:])]
        elif line.startswith("    ProxyCommand ") and speaks_for(hosts, name):
            return line.removeprefix("    ProxyCommand ").replace("%h", name)
    return ""


def speaks_for(patterns: list[str], name: str) -> bool:
    def matches(pattern: str) -> bool:
        wanted = ".*".join(re.escape(each) for each in pattern.split("*"))
        return re.fullmatch(wanted, name, re.DOTALL) is not None

    refused = any(matches(each[1:]) for each in patterns if each.startswith("!"))
    return not refused and any(matches(each) for each in patterns)


PAYLOADS = [
    "`touch hurt`",
    "`{touch,hurt}`",
    "$(touch hurt)",
    "${IFS}",
    "';touch hurt;'",
    "'`touch hurt`'",
    "\\';touch hurt;\\'",
    "x\\",
    "\ntouch hurt\n",
    "\n`touch hurt`'",
    ";touch hurt;",
    "|touch hurt",
    "&touch hurt",
    '";touch hurt;"',
    "<(touch hurt)",
    ">hurt",
    "!touch",
    "*",
    "{a,b}",
]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "ksh", "tcsh", "fish"])
def test_names_with_shell_characters_run_nothing(tmp_path: Path, shell: str) -> None:
    """OpenSSH before 9.6 hands them to the user's shell as they are."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    text = document.render(block(tmp_path, proxy="/bin/true"))
    for payload in PAYLOADS:
        for name in (f"jlab+demo+{payload}", f"jlab+demo+a{payload}b"):
            command = proxy_command(text, name)
            if command:
                subprocess.run(
                    [program, "-c", f"exec {command}"],
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                )
        assert not list(tmp_path.iterdir()), payload
    assert proxy_command(text, "jlab+demo+a.b_c-1").startswith("/bin/true connect 'jlab+demo+a.b_c")


def test_real_ssh_takes_no_name_with_a_shell_character(tmp_path: Path) -> None:
    """Newer ones refuse most themselves: of the rest, the block speaks for those it can read."""
    path = config_file(tmp_path, b"")
    merged_into(path, block(tmp_path))
    for character in map(chr, range(1, 127)):
        host = f"jlab+demo+a{character}b"
        done = subprocess.run(
            ["ssh", "-T", "-G", "-F", str(path), host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        expected = character.isalnum() or character in "+-._*?"
        found = "\nproxycommand " in done.stdout
        assert found is expected, (character, done.stderr)
        assert found is bool(proxy_command(path.read_text(), host.lower())) or done.returncode
