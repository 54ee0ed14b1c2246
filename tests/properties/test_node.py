"""What a hostile laptop sends to `jlab-node`: any words, any standard input."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jlab_node import cli
from jlab_node.connect import routes
from jlab_node.errors import JlabError, sanitize
from jlab_node.jobs import detection
from jlab_node.registry import home
from jlab_node.runtime import control_protocol

from .strategies import (
    as_bytes,
    fewer,
    hostile_bytes,
    hostile_json,
    hostile_text,
    is_shown_safely,
    mutated,
    mutated_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "x" * 43 + " alice@laptop"
ANSWERED = [
    '{"format": 1, "session": "slurm-12-lab", "ports": {"dask": 8787}}',
    '{"format": 1, "name": "dask", "port": 8787}',
    '{"format": 1, "error": "no"}',
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home on a plain server, and no programs but those that jlab-node needs."""
    made = tmp_path_factory.mktemp("place")
    (made / "home").mkdir()
    (made / "bin").mkdir()
    for name in ("bash", "sh", "ps", "ssh-keygen"):
        (made / "bin" / name).symlink_to(shutil.which(name) or "/none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(made / "home"))
        patch.setenv("PATH", str(made / "bin"))
        patch.setenv("JLAB_TMPDIR", str(made / "tmp"))
        patch.chdir(made)
        detection.site.cache_clear()
        home.ensure_state_dir()
        yield made
    detection.site.cache_clear()


class Ran:
    """`jlab-node` in this process, with the streams that Python gives it where UTF-8 is spoken."""

    def __init__(self, words: list[str], stdin: bytes) -> None:
        out, errors = io.BytesIO(), io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["jlab-node", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True))
            stderr = io.TextIOWrapper(errors, "utf-8", "backslashreplace", write_through=True)
            patch.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit) as ended:
                cli.main()
            self.code = ended.value.code
            self.out, self.errors = out.getvalue().decode(), errors.getvalue().decode()


_WRITING = ["--name", "--cpus", "--mem", "--time", "--account", "--env", "--pip"]
_options = st.sampled_from(
    ["--json", "--authorize", "--submit", "--dry-run", "--session", "--after", "--stop"]
) | st.sampled_from(["--port", "--unchecked", "-n", *_WRITING])
_verbs = st.sampled_from(
    ["ls", "status", "url", "logs", "stop", "submit", "setup", "expose", "connect"]
)
_kinds = st.sampled_from(["slurm", "oar", "pbs", "sge", "lsf", "environment", "tmuxp"])
_words = st.one_of(
    hostile_text.map(lambda text: text.replace("\0", "")),
    mutated(["gpu", "slurm-12-lab", "gricad+gpu", "../../x", "16G", "4:00:00"]),
    _options,
    st.builds("{}={}".format, _options, mutated(["gpu", "../../x", "12", "-5"])),
)


def _lines(text: str) -> list[str]:
    """Without what click shows of the words that it was given, to whoever has typed them."""
    return [line for line in text.split("\n") if line.startswith("jlab-node: ")]


@given(_verbs, st.lists(_words, max_size=4), hostile_bytes | mutated([KEY]).map(as_bytes))
@example("setup", ["--authorize"], b"\xff\n")
@example("setup", ["--authorize"], b'command="id" ' + KEY.encode() + b"\n")
@example("setup", ["--submit", "--session", "../../x"], b"sbatch\n")
@example("logs", ["../../../etc/passwd"], b"")
@example("stop", ["\udcff"], b"")
def test_any_words_and_input(place: Path, verb: str, words: list[str], stdin: bytes) -> None:
    words = [word for word in words if word not in ("-f", "--follow")]
    ran = Ran([verb, *words], stdin)
    assert ran.code in (0, 1, 2, 69)
    assert all(map(is_shown_safely, _lines(ran.errors)))
    assert all(map(is_shown_safely, ran.out.split("\n")))
    assert {path.name for path in place.iterdir()} <= {"home", "bin", "tmp"}
    assert {path.name for path in (place / "home").iterdir()} == {".jlab"}
    keys = (place / "home/.jlab/authorized_keys").read_text().split("\n")[:-1]
    assert all(re.fullmatch(r"(ssh|ecdsa)-[a-z0-9-]+ [\w+/]+=*( [\w@.+-]+)?", key) for key in keys)


@given(_kinds, st.lists(_words, max_size=4))
def test_any_words_for_a_script(place: Path, kind: str, words: list[str]) -> None:
    ran = Ran(["script", kind, *words], b"")
    assert ran.code in (0, 1, 2)
    assert all(map(is_shown_safely, ran.out.split("\n")))
    if ran.code == 0:
        assert ran.out.encode()
    assert {path.name for path in (place / "home").iterdir()} <= {".jlab", "jlab-logs"}
    shutil.rmtree(place / "home/jlab-logs", ignore_errors=True)


@fewer(100)
@given(
    st.lists(_words, max_size=3),
    st.lists(hostile_text.map(lambda text: f"--relay={text}".replace("\0", "")), max_size=1),
)
@example([], ["--relay=../../../../etc/passwd"])
def test_any_words_for_connect(place: Path, words: list[str], relay: list[str]) -> None:
    """The fast path: no session is there, so that the slow one says so; and a relay of nothing."""
    script = str(place / "home/.jlab/connect")
    done = subprocess.run(
        ["bash", script, *words, *relay, "--columns=80"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b""
    for wrong in (b"root:", b"syntax error", b"Traceback"):
        assert wrong not in done.stderr


@given(hostile_bytes | (mutated(ANSWERED) | mutated_json(ANSWERED)).map(as_bytes))
@example(b"[" * 100_000)
def test_what_sessions_say_to_each_other(line: bytes) -> None:
    for parse in (control_protocol.parse_request, control_protocol.parse_response):
        try:
            found = parse(line)
        except JlabError as error:
            assert is_shown_safely(str(error))
        else:
            assert parse(control_protocol.render(found)) == found


@given(hostile_text | mutated(["ssh: no route to host\nsrun: error: /x/enter: No such file\n"]))
def test_why_a_way_is_closed(said: str) -> None:
    with pytest.raises((routes.RouteUnavailable, routes.SessionEnded)) as caught:
        routes._raise_for_exit(1, said, "it was no ssh server")
    assert is_shown_safely(sanitize(str(caught.value)))


@given(hostile_json)
def test_json_of_any_text_is_one_line(value: object) -> None:
    """By which a laptop tells it from what a .bashrc says."""
    text = control_protocol.render(JlabError(str(value)))
    assert text.count(b"\n") == 1
    assert text.isascii()
