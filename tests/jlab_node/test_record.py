"""The record's text form: what may stand in it, and what a damaged one gives."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from jlab_node.identifiers import is_id, is_name, split_id
from jlab_node.registry.record import Record, RecordError, parse, render

SAMPLES = Path(__file__).with_name("samples")
TOKEN = "ab" * 32
NONCE = "0f" * 16

MINIMAL = Record(name="lab", node="n1", port=8888, token=TOKEN)
FULL = Record(
    name="gpu",
    node="dahu-12.u-ga.fr",
    port=35671,
    token=TOKEN,
    scheduler="slurm",
    job_id="123456",
    id_suffix="gricad",
    cluster="gricad",
    ssh_port=40123,
    sshd_config="/tmp/jlab-alice/x7k2m9qa/sshd_config",
    socket_dir="/tmp/jlab-alice",
    nonce=NONCE,
    knock="1e" * 16,
    scheme="https",
    base_url="/user/alice/",
    exposed="dask,bokeh",
    user="alice",
    process=f"4711.134058.4026531836.{NONCE}",
    started=1760000000,
    job_started=1759999990,
    ends_at=1760014400,
    log="/home/alice/my jobs/jlab=gpu-123456.out",
    version="0.1.0",
)

# Before these keys there were.
KNOCK = replace(FULL, id_suffix="", process="", job_started=None, socket_dir="")

# Values that no key may have: they reach a command line, a file name or a screen.
NEVER = {
    "empty": "",
    "command substitution": "$(reboot)",
    "backquotes": "`reboot`",
    "quote": "'",
    "semicolon": "a;reboot",
    "leading dash": "-oProxyCommand=x",
    "parent directory": "../../etc",
    "escape sequence": "\x1b[2J",
    "C1 control": "a\x9b2J",
    "carriage return": "a\r",
    "null": "a\x00",
    "delete": "/a\x7f",
}

# What is wrong with one key only.
BAD = {
    "name": ["Lab", ".lab", "_lab", "a/b", "a b", "a+b", "é", "a" * 33],
    "scheduler": ["Slurm", "slurm2", "s-l", "a" * 17],
    "job_id": ["1-2", "_1", "1{2}", "1/2", "é", "1" * 65],
    "id_suffix": ["a-b", "a b", "a/b", "a[1]", "é", "a" * 33],
    "cluster": ["_c", "a b", "a/b", "é", "a" * 65],
    "node": ["-n1", ".n1", "n1.", "n1:22", "[::1]", "n 1", "n_1/", "alice@n1", "é", "n" * 255],
    "ssh_port": ["0", "022", "65536", "99999", "100000", "-1", "+22", "22 ", "0x16", "2_2", "٢٢"],
    "socket_dir": ["tmp/x", "~/x", "/a b", "/a:b", "/$(id)", "/é", "/" + "a" * 108],
    "sshd_config": ["tmp/x", "~/x", "/a\tb", "/a\x9bb", "/a\x85b", "/" + "a" * 1024],
    "nonce": ["0f" * 15, "0f" * 17, "0F" * 16, "0g" * 16, NONCE + " "],
    "knock": ["1e" * 15, "1e" * 17, "1E" * 16, "1g" * 16, "1e" * 16 + " "],
    "port": ["0", "08888", "65536", "99999", "100000", "-1", "8888.0", "1e3", "88 88", "٨٨٨٨"],
    "base_url": ["lab/", "/lab", "//", "/a b/", "/a?b/", "/a#b/", "/é/", '/"/'],
    "scheme": ["HTTPS", "ftp", "https:", "javascript", "http "],
    "exposed": [
        ",dask",
        "dask,",
        "dask,,bokeh",
        "dask, bokeh",
        "Dask",
        "a/b",
        "é",
        "a" * 33,
        ",".join(["a"] * 17),
    ],
    "user": ["-alice", "alice bob", "a/b", "$alice", "a$b", "é", "a" * 66],
    "process": ["4711", "4711.1.1", f"0.1.1.{NONCE}", f"1.-1.1.{NONCE}", f"1.1.1.1.{NONCE}"],
    "started": ["0", "-1", "1.5", "01", "1" * 13, "now"],
    "job_started": ["0", "-1", "1.5", "01", "1" * 13, "now"],
    "ends_at": ["0", "-1", "1.5", "01", "1" * 13, "never"],
    "log": ["log", "./log", "/a\x1b[0mb", "/a\x9bb", "/a\x00", "/" + "a" * 1024],
    "version": [".1", "0.1 0", "0/1", "é", "1" * 65],
    "token": ["ab" * 31, "ab" * 33, "AB" * 32, "ag" * 32, TOKEN + " ", " " + TOKEN],
}


def lines(**values: str) -> str:
    """Text of a record in which these keys have these values, valid or not."""
    whole = dict(line.split("=", 1) for line in render(FULL).splitlines())
    return "".join(f"{key}={value}\n" for key, value in {**whole, **values}.items())


@pytest.mark.parametrize("record", [FULL, MINIMAL], ids=["full", "minimal"])
def test_render_and_parse_round_trip(record: Record) -> None:
    assert parse(render(record)) == record


def test_every_key_of_a_full_record_is_written() -> None:
    written = [line.partition("=")[0] for line in render(FULL).splitlines()]
    assert sorted(written) == sorted(["format", *(field.name for field in fields(Record))])


# Released samples are never edited: what was once published is read for ever. A new format or a
# new key gets a new sample beside them.
@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("format-1-full", replace(KNOCK, scheme="http", exposed="", knock="")),
        ("format-1-minimal", MINIMAL),
        ("format-1-exposed", replace(KNOCK, knock="")),
        ("format-1-knock", KNOCK),
        ("format-1-process", replace(FULL, socket_dir="")),
        ("format-1-socket-dir", replace(KNOCK, sshd_config="", socket_dir="/tmp/jlab-alice")),
    ],
)
def test_parse_released_sample(sample: str, expected: Record) -> None:
    assert parse(SAMPLES.joinpath(sample).read_text(encoding="utf-8")) == expected


def test_defaults_of_what_an_older_or_simpler_writer_leaves_out() -> None:
    record = parse(f"format=1\nname=lab\nnode=n1\nport=8888\ntoken={TOKEN}\n")
    assert (record.scheduler, record.job_id, record.base_url) == ("local", "0", "/")
    assert (record.scheme, record.exposed) == ("http", "")
    assert record.ssh_port is record.started is record.ends_at is None
    assert record.id == "local-0-lab"
    assert (record.id_suffix, record.process, record.job_started) == ("", "", None)


def test_an_id_tells_scheduler_job_and_name_whatever_stands_between() -> None:
    assert FULL.id == "slurm-123456..gricad-gpu"
    for each in (FULL, KNOCK, replace(KNOCK, scheduler="pbs", job_id="12[3].server")):
        assert is_id(each.id)
        assert split_id(each.id) == (each.scheduler, each.job_id, each.name)


def test_the_tables_of_bad_values_name_every_key() -> None:
    assert sorted(BAD) == sorted(field.name for field in fields(Record))


@pytest.mark.parametrize(("key", "values"), BAD.items(), ids=BAD)
def test_bad_value_is_refused_by_its_key(key: str, values: list[str]) -> None:
    for value in (*NEVER.values(), *values):
        try:
            parse(lines(**{key: value}))
        except RecordError as error:
            assert str(error) in (f"its {key} is not valid", f"its {key} is not a port number")
        else:
            raise AssertionError(f"{value[:80]!a} is taken")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a"),
        ("name", "0._-" + "z" * 28),
        ("node", "N1"),
        ("node", ".".join(["n" * 63] * 3)),
        ("job_id", "1234_7.batch"),
        ("ssh_port", "1"),
        ("ssh_port", "65535"),
        ("port", "65535"),
        ("base_url", "/a%20b/~c/"),
        ("scheme", "http"),
        ("scheme", "https"),
        ("exposed", "a"),
        ("exposed", ",".join(["a" * 32] * 16)),
        ("user", "machine$"),
        ("user", "alice@ad.example"),
        ("log", "/home/rené/日本 #1 $(x).out"),
        ("log", "/"),
        ("version", "1.0.0rc1+local"),
    ],
)
def test_good_value_is_taken_as_it_is(key: str, value: str) -> None:
    record = parse(lines(**{key: value}))
    assert str(getattr(record, key)) == value
    assert parse(render(record)) == record


@pytest.mark.parametrize("record", [FULL, MINIMAL], ids=["full", "minimal"])
def test_cut_short_anywhere_is_no_record(record: Record) -> None:
    whole = render(record)
    assert whole.isascii()  # so that positions are bytes
    survivors = []
    for length in range(len(whole)):
        try:
            survivors.append((length, parse(whole[:length])))
        except RecordError:
            continue
    assert survivors == []


def test_unknown_keys_are_ignored() -> None:
    added = "gpus=4\nnotes=a=b=c; $(reboot) \x1b[2J é\nempty=\n=no key\n"
    assert parse(render(FULL) + added) == FULL


@pytest.mark.parametrize("version", ["2", "10", "999999"])
def test_newer_format_says_to_upgrade(version: str) -> None:
    with pytest.raises(RecordError, match=rf"format {version}\): upgrade jlab-remote"):
        parse(lines(format=version))


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "1.0", "one", "1 ", "1" * 7, "\x1b[2J"])
def test_format_that_is_no_number(version: str) -> None:
    with pytest.raises(RecordError, match=r"^it has no format number$"):
        parse(lines(format=version))


@pytest.mark.parametrize("key", ["format", "name", "node", "port", "token"])
def test_missing_key_is_named(key: str) -> None:
    text = "".join(
        line for line in render(FULL).splitlines(keepends=True) if not line.startswith(f"{key}=")
    )
    with pytest.raises(RecordError, match=f"^it has no {key}"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "it is cut short", id="empty"),
        pytest.param("\n", "not key=value", id="an empty line"),
        pytest.param(render(FULL) + "\n", "not key=value", id="an empty line at the end"),
        pytest.param("\n" + render(FULL), "not key=value", id="an empty line at the start"),
        pytest.param(render(FULL) + "hello\n", "not key=value", id="a word"),
        pytest.param(render(FULL) + "node=n2\n", "a key twice", id="node twice"),
        pytest.param(render(FULL) * 2, "a key twice", id="the record twice"),
        pytest.param(render(FULL) + "x=1\nx=2\n", "a key twice", id="an unknown key twice"),
        pytest.param(render(FULL).replace("\n", "\r\n"), "no format number", id="CRLF"),
        pytest.param(render(FULL).replace("node=", "node =", 1), "it has no node", id="a space"),
    ],
)
def test_text_that_is_no_record(text: str, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        pytest.param(replace(FULL, node="$(reboot)"), "node", id="command substitution"),
        pytest.param(replace(FULL, name="lab\ntoken=x"), "name", id="a second line"),
        pytest.param(replace(FULL, name="lab\n"), "name", id="newline at the end"),
        pytest.param(replace(FULL, log="/log\nnode=evil"), "log", id="newline in a path"),
        pytest.param(replace(FULL, log="/log\x9b2J"), "log", id="C1 control character"),
        pytest.param(replace(FULL, sshd_config="/a\x1b[2J"), "sshd_config", id="escape sequence"),
        pytest.param(replace(FULL, log="/log\udcff"), "log", id="bytes that are no UTF-8"),
        pytest.param(replace(FULL, port=0), "port", id="port 0"),
        pytest.param(replace(FULL, port=65536), "port", id="port 65536"),
        pytest.param(replace(FULL, job_id="1" * 60), "id_suffix", id="too long an id"),
        pytest.param(replace(FULL, ssh_port=-1), "ssh_port", id="negative port"),
        pytest.param(replace(FULL, ends_at=-5), "ends_at", id="negative time"),
        pytest.param(replace(FULL, token=TOKEN[1:]), "token", id="short token"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(record: Record, key: str) -> None:
    with pytest.raises(RecordError, match=f"^its {key} is not "):
        render(record)


def test_error_and_repr_keep_the_token_to_themselves() -> None:
    assert repr(FULL) == "Record(slurm-123456..gricad-gpu)"
    assert TOKEN not in f"{FULL} {FULL!r} {[FULL]}"
    with pytest.raises(RecordError) as caught:
        parse(lines(token=TOKEN.upper()))
    assert TOKEN.upper() not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("lab", True), ("0", True), ("", False), ("a\n", False), ("Lab", False), ("-a", False)],
)
def test_is_name_accepts_and_rejects(text: str, *, expected: bool) -> None:
    assert is_name(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL.id, True),
        (MINIMAL.id, True),
        ("pbs-12[3].server-a-b", True),
        ("slurm-12", False),
        ("slurm--lab", False),
        ("-12-lab", False),
        ("slurm-12-", False),
        ("slurm12lab", False),
        ("Slurm-12-lab", False),
        ("slurm-1~2-lab", False),
        ("slurm-12-Lab", False),
        ("slurm-12-lab\n", False),
        ("../slurm-12-lab", False),
        ("", False),
    ],
)
def test_is_id_accepts_and_rejects(text: str, *, expected: bool) -> None:
    assert is_id(text) is expected


@pytest.mark.parametrize(
    ("own", "scheduler", "cluster", "expected"),
    [
        pytest.param("gricad", "slurm", "gricad", True, id="that one"),
        pytest.param("gricad", "slurm", "cal1", False, id="another"),
        pytest.param("gricad", "oar", "gricad", False, id="another scheduler"),
        pytest.param("gricad", "slurm", "", True, id="one without a name"),
        pytest.param("gricad", "oar", "", False, id="one without a name, of another scheduler"),
        pytest.param("", "slurm", "gricad", True, id="the record has none"),
        pytest.param("", "oar", "gricad", False, id="the record has none, another scheduler"),
    ],
)
def test_is_of_a_cluster(own: str, scheduler: str, cluster: str, *, expected: bool) -> None:
    assert replace(FULL, cluster=own).is_of(scheduler, cluster) is expected
