"""What the other side, or a broken file system, may send: text, JSON, damaged samples."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st

from jlab_node import identifiers
from jlab_node.identifiers import is_id
from jlab_node.registry.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

_TURNS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# What has broken programs of this kind: escapes, words of shells and of ssh, ends of lines.
NASTY = [
    *["\x1b[2J", "\x1b]0;x\x07", "\x9b2J", "\r", "\n", "\r\n", "\t", "\x00", "\x7f", "\x85"],
    *["\u2028", "\u202e", "\ud800", "\udcff", "é", "日本", "\U0001f600", "٣", "²"],
    *[
        "$(id)",
        "`id`",
        "'",
        '"',
        "\\",
        ";",
        "|",
        "&",
        "!",
        "*",
        "?",
        "[1]",
        "{a,b}",
        "~",
        "#",
        "%h",
    ],
    *["%h", "-oProxyCommand=id", "-", "../../etc/passwd", "/", ".", "..", " ", "=", "+", ",", ":"],
    *["0", "-1", "00", "65536", "9" * 20, "9" * 5000, "1e400", "nan", "inf", "None", "null"],
    *["[" * 3000, "{", "}", "]", "(null)", "N/A", "\x1f"],
]

# Any text, as Python has it: also what came out of bytes that are no UTF-8.
any_text: SearchStrategy[str] = st.text(st.characters(exclude_categories=()), max_size=40)
hostile_text: SearchStrategy[str] = st.one_of(
    any_text,
    st.sampled_from(NASTY),
    st.lists(st.sampled_from(NASTY) | st.text("ab1. -", max_size=4), max_size=5).map("".join),
)


def as_bytes(text: str) -> bytes:
    """Also what is no text in any encoding."""
    return text.encode("utf-8", errors="surrogatepass")


hostile_bytes: SearchStrategy[bytes] = st.binary(max_size=60) | hostile_text.map(as_bytes)

_numbers = st.integers() | st.sampled_from([10**30, -(10**30), 10**12, 2**63, -1, 0])
_leaves = st.none() | st.booleans() | _numbers | st.floats() | hostile_text
hostile_json: SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """A sample in which some pieces are something else."""
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(start + draw(st.integers(0, 40)), len(text))
        text = text[:start] + draw(hostile_text | st.just(text[start:stop] * 2)) + text[stop:]
    return text


@st.composite
def mutated_json(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """A sample of JSON in which some values are others, and some keys are missing."""
    value = json.loads(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        holder, key = draw(st.sampled_from(places))
        if isinstance(holder, dict) and draw(st.booleans()):
            kept = holder.pop(key, None)
            if draw(st.booleans()):
                holder[draw(hostile_text)] = kept
        else:
            holder[key] = draw(hostile_json)
        value = value or {"x": {}}
    return json.dumps(value)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a value, with each of its keys."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [
        place for key in keys for place in _places(value[key])
    ] or [({"x": 1}, "x")]


def fewer(cost: int) -> settings:
    """For what takes as long as `cost` ordinary examples, as processes do."""
    return settings(max_examples=max(settings().max_examples // cost, 5))


def is_shown_safely(text: str) -> bool:
    """Whether a terminal shows all of it and obeys none: no controls, halves, turns of writing."""
    return not any(unicodedata.category(each) in ("Cc", "Cs") or each in _TURNS for each in text)


_name = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)
_word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
_port = st.integers(1, 65535)
_time = st.integers(1, 10**12 - 1)
_visible = st.characters(exclude_categories=("Cc", "Cs"))
_path = st.text(_visible, max_size=60).map("/{}".format)


def _hexadecimal(length: int) -> SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


records: SearchStrategy[Record] = st.builds(
    Record,
    name=_name,
    node=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True), min_size=1,
                  max_size=4).map(".".join),
    port=_port,
    token=_hexadecimal(64),
    scheduler=st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=16),
    job_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\[\]]{0,63}", fullmatch=True),
    id_suffix=st.just("") | st.from_regex(r"[A-Za-z0-9._]{1,32}", fullmatch=True),
    cluster=st.just("") | _word,
    ssh_port=st.none() | _port,
    sshd_config=st.just("") | _path,
    socket_dir=st.just("") | st.from_regex(r"/[A-Za-z0-9._/-]{1,107}", fullmatch=True),
    nonce=st.just("") | _hexadecimal(32),
    knock=st.just("") | _hexadecimal(32),
    scheme=st.sampled_from(["http", "https"]),
    base_url=st.lists(st.from_regex(r"[A-Za-z0-9._~%-]{1,9}", fullmatch=True), max_size=3).map(
        lambda parts: "/" + "".join(f"{part}/" for part in parts)
    ),
    exposed=st.lists(_name, max_size=16).map(",".join),
    user=st.just("") | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\$?", fullmatch=True),
    process=st.just("") | st.from_regex(identifiers.PROCESS, fullmatch=True),
    started=st.none() | _time,
    job_started=st.none() | _time,
    ends_at=st.none() | _time,
    log=st.just("") | _path,
    version=st.just("") | st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}", fullmatch=True),
).filter(lambda record: not record.id_suffix or is_id(record.id))  # fmt: skip
