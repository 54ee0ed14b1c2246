"""Records: whatever stands in one, Python and bash read the same out of it, or refuse it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlab_node.identifiers import is_id
from jlab_node.registry import home
from jlab_node.registry.record import Record, RecordError, parse, render

from .strategies import hostile_bytes, hostile_text, is_shown_safely, mutated, records

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = [
    path.read_text("utf-8")
    for path in sorted(Path(__file__).parents[1].joinpath("jlab_node/samples").glob("format-*"))
]
# What bash reads of a record, and what it uses none of.
READ = [
    "name",
    "scheduler",
    "job_id",
    "cluster",
    "node",
    "ssh_port",
    "nonce",
    "ends_at",
    "scheme",
    "base_url",
]
UNUSED = r"(it has no|its) (port|sshd_config|exposed|user|started|log|version)\b"

damaged = mutated(SAMPLES) | st.builds(render, records).flatmap(lambda text: mutated([text]))


@given(records)
def test_what_is_written_is_read(record: Record) -> None:
    written = render(record).encode("utf-8")
    assert parse(written.decode("utf-8")) == record
    assert is_id(record.id)


@given(damaged | hostile_text | hostile_bytes.map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_record_or_is_refused_in_one_sentence(text: str) -> None:
    try:
        record = parse(text)
    except RecordError as error:
        assert is_shown_safely(str(error))
        return
    for key in ("name", "node", "scheduler", "job_id", "cluster", "user", "version", "nonce"):
        assert re.fullmatch(r"[A-Za-z0-9_.@$\[\]+!-]*", str(getattr(record, key)))
        assert not str(getattr(record, key)).startswith("-")
    for path in (record.log, record.sshd_config):
        path.encode("utf-8")
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", path)
    assert 0 < record.port < 65536
    assert "/" not in record.id
    assert parse(render(record)) == record


class Bash:
    """~/.jlab/connect's reader, in one bash for all examples."""

    def __init__(self, place: Path) -> None:
        self.file = place / "record"
        functions = home.connect_script().rpartition('main "$@"')[0]
        shown = " ".join(f'"${key}"' for key in READ)
        loop = (
            "while IFS= read -r file; do\n"
            f"if read_record \"$file\"; then printf '%s\\n' yes {shown}; else echo no; fi\ndone\n"
        )
        (place / "reader").write_text(functions + loop, encoding="utf-8")
        self._process = subprocess.Popen(
            ["bash", str(place / "reader")],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._answers = open(self._process.stdout.fileno(), "rb", closefd=False)  # noqa: SIM115

    def read(self, text: bytes) -> dict[str, str] | None:
        """The values that it would use; None: it refuses the record."""
        self.file.write_bytes(text)
        assert self._process.stdin is not None
        self._process.stdin.write(bytes(self.file) + b"\n")
        if self._answers.readline() == b"no\n":
            return None
        return {key: self._answers.readline()[:-1].decode("ascii") for key in READ}

    def end(self) -> bytes:
        """What it complained of."""
        self._answers.close()
        return self._process.communicate()[1]


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    made = Bash(tmp_path_factory.mktemp("bash"))
    yield made
    assert made.end() == b""


def as_python_reads(raw: bytes) -> Record | str:
    """The record, or why it is none."""
    try:
        return parse(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return "it is not text"
    except RecordError as error:
        return str(error)


# bash drops null bytes before anything can see them.
@given(text=damaged.filter(lambda text: "\x00" not in text))
def test_bash_and_python_read_the_same(bash: Bash, text: str) -> None:
    written = text.encode("utf-8", errors="surrogatepass")
    shell = bash.read(written)
    found = as_python_reads(written)
    if isinstance(found, Record):
        complete = found.ssh_port is not None and found.nonce != ""
        assert (shell is not None) == complete
        if shell:
            assert shell == {key: str(getattr(found, key) or "") for key in READ}
    else:
        assert shell is None or re.match(UNUSED + "|it is not text", found)


@given(raw=hostile_bytes | hostile_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bash_refuses_what_is_no_record(bash: Bash, raw: bytes) -> None:
    assert bash.read(raw) is None
