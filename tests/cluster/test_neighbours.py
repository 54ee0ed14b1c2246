"""u4, on the same node and the same login node as u2's session, looks for a way in."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster import Host

    from tests.cluster.conftest import Person

PYTHON = "/opt/jlab/bin/python"
PLACES = "/home/u2 /home/l2 /tmp /var/tmp /dev/shm /run /var/lib/slurm /var/lib/oar /var/spool"

# Until its standard input ends it looks at every command line and environment, and every second at
# every file in the places given; then it prints how often it looked and all that it could read.
WATCH = r"""
import os, select, sys, threading, time
seen = set()

def look(path):
    try:
        with open(path, "rb") as file:
            seen.add(file.read(1 << 20))
    except OSError:
        pass

def walk():
    global walks
    while True:
        for place in sys.argv[1:]:
            for directory, _, names in os.walk(place):
                for path in (f"{directory}/{name}" for name in names):
                    if os.path.isfile(path):
                        look(path)
        walks += 1
        time.sleep(1)

looks = walks = 0
threading.Thread(target=walk, daemon=True).start()
while not walks or not select.select([0], [], [], 0.05)[0]:
    for process in filter(str.isdigit, os.listdir("/proc")):
        look(f"/proc/{process}/cmdline")
        look(f"/proc/{process}/environ")
    looks += 1
sys.stdout.buffer.write(b"\n".join([b"looks: %d %d" % (looks, walks), *list(seen)]))
"""

# What one gets by connecting to TCP ports and unix sockets, as JSON.
CONNECT = r"""
import http.client, json, socket, sys, zmq
ports, paths = json.loads(sys.argv[1])

def listen_to(port):
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.5)
        try:
            while chunk := connection.recv(4096):
                said += chunk
        except (TimeoutError, ConnectionResetError):
            pass
    return said.decode("latin-1")

def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return [answer.status, f"{answer.headers}{answer.read().decode('latin-1')}"]
    except (OSError, http.client.HTTPException) as error:
        return [0, str(error)]

def subscribe(port):  # as a client of a kernel does
    client = zmq.Context.instance().socket(zmq.SUB)
    client.setsockopt(zmq.SUBSCRIBE, b"")
    client.connect(f"tcp://127.0.0.1:{port}")
    said = repr(client.recv_multipart()) if client.poll(1500) else ""
    client.close(0)
    return said

def take(port, *more):
    for host in ("127.0.0.1", "0.0.0.0", *more):
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, option, 1)
                try:
                    listener.bind((host, port))
                    listener.listen()
                    return True
                except OSError:
                    pass
    return False

def reach(path):
    name = path.replace("@", "\0", 1) if path.startswith("@") else path
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as connection:
            try:
                connection.connect(name)
                return "open"
            except OSError as error:
                problem = error.strerror
    return problem

pages = ["/", "/lab", "/login", "/api", "/api/status", "/api/status?token=", "/api/sessions",
         "/api/kernels", "/api/terminals", "/api/contents/jlab-lab.sh", "/files/jlab-lab.sh",
         "/lab/api/settings", "/api/me", "/terminals/websocket/1"]
print(json.dumps({
    "said": {port: listen_to(port) for port in ports},
    "pages": {port: {page: ask(port, page) for page in pages} for port in ports[:2]},
    "kernel": {port: subscribe(port) for port in ports},
    "taken": {port: take(port) for port in [*ports, 0]},
    "taken at the node's address": take(ports[0], socket.gethostbyname(socket.gethostname())),
    "reached": {path: reach(path) for path in paths},
}))
"""

# Until its standard input ends it connects to a port again and again: it always holds 300
# connections that say nothing, and 60 that begin as ssh does. Then it prints how often it did.
CROWD = r"""
import contextlib, select, socket, sys
node, port, silent, talking, rounds = *sys.argv[1:], [], [], 0

def renew(connections, most, said):
    if len(connections) >= most:
        connections.pop(0).close()
    with contextlib.suppress(OSError):
        connections.append(socket.create_connection((node, int(port)), timeout=5))
        connections[-1].sendall(said)

while not select.select([0], [], [], 0)[0]:
    renew(silent, 300, b"")
    renew(talking, 60, b"SSH-2.0-OpenSSH_9.2\r\n")
    rounds += 1
    if rounds == 400:
        print("full", flush=True)
print(rounds)
"""

# What u2 could leave open, until its standard input ends: all that CONNECT does can succeed.
OPEN = r"""
import os, select, socket, zmq
listeners = []
for path in ("/tmp/open-u2", "\0open-u2"):
    listeners.append(socket.socket(socket.AF_UNIX))
    listeners[-1].bind(path)
    listeners[-1].listen()
os.chmod("/tmp/open-u2", 0o777)
publisher = zmq.Context.instance().socket(zmq.PUB)
print(publisher.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while not select.select([0], [], [], 0.05)[0]:
    publisher.send(b"open to all")
os.unlink("/tmp/open-u2")
"""

# What a kernel does until it is told to stop.
PRINTS = """
import pathlib, time
pathlib.Path("printing").touch()
while not pathlib.Path("enough").exists():
    print("what u2 prints")
    time.sleep(0.05)
6*7
"""


@pytest.fixture(scope="module")
def person(people: Callable[..., Person]) -> Iterator[Person]:
    made = people(name="2")
    made.home.chmod(0o755)  # many sites' homes can be entered: it is ~/.jlab that has to be closed
    yield made
    made.home.chmod(0o700)


@pytest.fixture(scope="module")
def neighbour(people: Callable[..., Person]) -> Person:
    return people(name="4")


@pytest.fixture(scope="module")
def record(person: Person) -> dict[str, str]:
    """That of a session which all but the first test use."""
    return person.wait_for_session(person.submit())


def start(host: Host, user: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program on a host, which ends when its standard input does."""
    env = ["env", "CANARY=an environment can be read"]
    return subprocess.Popen(
        host.command([*env, PYTHON, "-c", program, *arguments], user),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="latin-1",
    )


def test_no_secret_is_to_be_seen(person: Person, neighbour: Person) -> None:
    """At no moment of a session: not on the node, the login node or the laptop."""
    (person.home / "canary").write_text("a file can be read")
    node = person.cluster.host(person.site.nodes[0])
    watches = {
        host.name: start(host, user, WATCH, *PLACES.split())
        for host, user in (
            (node, neighbour.user),
            (person.login, neighbour.user),
            (person.laptop, neighbour.owner),
        )
    }
    try:
        job, secrets, texts = use_a_session(person)
        texts["the scheduler"] = schedulers_words(person, neighbour, job)
        person.on_login("jlab-node", "stop", "lab")
    finally:
        seen = {name: watch.communicate()[0] for name, watch in watches.items()}
    for name, text in seen.items():
        looks = re.match("looks: ([0-9]+) ([0-9]+)", text)
        assert looks, name
        # A busy machine has few; what stands in `seen` below shows that they were in time.
        assert int(looks[1]) > 5, name
        assert int(looks[2]) > 2, name
        assert "an environment can be read" in text, name
    assert "a file can be read" in seen[node.name]
    assert "ServerApp.sock=" in seen[node.name], "it saw JupyterLab's command line"
    assert ".jlab/connect" in seen[person.login.name]
    assert "jlab-proxy" in seen[person.laptop.name]
    logs = [path for path in person.home.glob("*") if re.search(rf"{job}\.(out|std)", path.name)]
    assert logs, "the job log"
    for what, text in {**seen, **texts, **{path.name: path.read_text() for path in logs}}.items():
        for name, secret in secrets.items():
            assert secret not in text, f"{name} in {what}"


def use_a_session(person: Person) -> tuple[str, dict[str, str], dict[str, str]]:
    """All that makes secrets travel: the job, the secrets, and what was said on the way."""
    job = person.submit()
    record = person.wait_for_session(job)
    home = person.laptop.home(person.owner)
    person.start("ssh", "-vvv", "-E", "ssh.log", "-N", f"jlab+{person.alias}")
    url = person.open_forward()
    assert record["token"] in url
    assert record["token"] in person.on_login("jlab-node", "url")
    connection = "__import__('json').load(open(__import__('ipykernel').get_connection_file()))"
    secrets = {
        "the token": record["token"],
        "the nonce": record["nonce"],
        "the knock": record["knock"],
        "a kernel's key": person.evaluate(url, f"{connection}['key']").strip("'"),
        "the host key": (person.home / ".jlab/host_key").read_text().splitlines()[2],
        "the laptop's key": (home / ".ssh/jlab/id").read_text().splitlines()[2],
    }
    assert all(len(secret) > 30 for secret in secrets.values())
    log = home / "ssh.log"
    texts = {"ls": person.on_login("jlab-node", "ls", "--json"), "ssh -vvv": log.read_text()}
    assert all(texts.values())
    log.unlink()
    return job, secrets, texts


def schedulers_words(person: Person, neighbour: Person, job: str) -> str:
    """All that it tells of the job, to its owner and to others."""
    commands = {
        "slurm": [
            ["squeue", "--json"],
            ["squeue", "--format=%all"],
            ["scontrol", "--details", "show", "job", job],
            ["scontrol", "show", "step"],
            ["scontrol", "write", "batch_script", job, "-"],
        ],
        "oar": [
            ["oarstat", "--full", "--json"],
            ["oarstat", "--full", "--job", job],
            ["oarstat", "--properties", "--job", job],
        ],
    }[person.site.scheduler]
    said = "".join(
        person.login.run(command, user).stdout
        for command in commands
        for user in (person.user, neighbour.user)
    )
    assert "jlab-lab.sh" in said
    return said


def test_private_files_are_closed(
    person: Person, neighbour: Person, record: dict[str, str]
) -> None:
    node = person.cluster.host(record["node"])
    link = f"{record['socket_dir']}/lab.sock"
    directory = node.run(["readlink", "-f", link], person.user).stdout.rpartition("/")[0]
    private = [
        *("/home/u2/.jlab", "/home/u2/.jlab/host_key", "/home/u2/.jlab/authorized_keys"),
        f"/home/u2/.jlab/sessions/{person.site.scheduler}-{record['job_id']}-lab",
        *("/tmp/jlab-u2", "/tmp/jlab-u2/lab.sock", directory),
        *(f"{directory}/{name}" for name in ("rt", "direct", "alive")),
    ]
    for path in private:
        assert node.run(["test", "-e", path], person.user).returncode == 0, path
        for command in (["cat", path], ["ls", path], ["touch", path], ["mv", path, f"{path}~"]):
            done = node.run(command, neighbour.user)
            assert done.returncode, command
            assert not done.stdout
            assert re.search("Permission denied|Operation not permitted", done.stderr), done
    look = 'cd /proc/"$1"; cat environ maps mem; ls fd; readlink cwd exe root'
    for pid in pids(node, person.user):
        assert node.run(["sh", "-c", look, "look", pid], neighbour.user).stdout == ""
    own = node.run(["sh", "-c", 'cat /proc/"$$"/environ; ls /proc/"$$"/fd'], neighbour.user)
    assert "HOME=/home/u4" in own.stdout


def pids(host: Host, user: str) -> list[str]:
    found = host.run(["ps", "-u", user, "-o", "pid="]).stdout.split()
    assert found
    return found


def test_nothing_answers(person: Person, neighbour: Person, record: dict[str, str]) -> None:
    """No port and no socket on which any process of u2's listens, while a kernel prints."""
    node = person.cluster.host(record["node"])
    url = person.open_forward()
    left_open = start(node, person.user, OPEN)
    assert left_open.stdout is not None
    open_port = left_open.stdout.readline().strip()
    with ThreadPoolExecutor() as pool:
        kernel = pool.submit(person.evaluate, url, PRINTS)
        try:
            wait_until((person.home / "printing").exists, "the kernel prints")
            ports, paths = listeners(node, person.user)
            assert {record["port"], record["ssh_port"], open_port} < ports
            ours = [record["ssh_port"], record["port"]]
            asked = [[int(port) for port in [*ours, *ports.difference(ours)]], sorted(paths)]
            done = node.run([PYTHON, "-c", CONNECT, json.dumps(asked)], neighbour.user)
        finally:
            person.on_login("touch", "enough")
            assert kernel.result() == "42"
            person.on_login("rm", "printing", "enough")
            left_open.communicate()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Every attempt succeeds where there is something to be had.
    assert "open to all" in found["kernel"].pop(open_port)
    assert found["reached"].pop("/tmp/open-u2") == found["reached"].pop("@open-u2") == "open"
    assert found["taken"].pop("0") is True
    assert not any(found["kernel"].values())
    assert not any(found["taken"].values())
    assert not found["taken at the node's address"]
    assert set(found["reached"].values()) == {"Permission denied"}
    for name in ("/lab.sock", "/direct", "-ipc-1", "-ipc-2", "-ipc-3", "-ipc-4", "-ipc-5"):
        assert any(path.endswith(name) for path in found["reached"]), name
    # The endpoint greets everybody; it starts nothing for who does not even speak ssh.
    assert found["said"][record["ssh_port"]] == f"jlab {record['nonce']}\r\n"
    pages = found["pages"][record["port"]]
    assert pages["/api/status"][0] == pages["/api/status?token="][0] == 403
    for page, (status, text) in pages.items():
        assert status in ((200,) if page in ("/login", "/api") else (302, 401, 403, 404)), page
        assert record["token"] not in text
        assert "jlab-node run" not in text, "the job script"
    assert record["token"] not in done.stdout
    assert "what u2 prints" not in done.stdout


def listeners(host: Host, user: str) -> tuple[set[str], set[str]]:
    """The TCP ports and the paths of unix sockets on which the user's processes listen."""
    theirs = set(pids(host, user))
    ports, paths = set(), set()
    for line in host.run(["ss", "-Hltnxp"], check=True).stdout.splitlines():
        if theirs.intersection(re.findall("pid=([0-9]+)", line)):
            kind, local = line.split()[0], line.split()[4]
            if kind == "tcp":
                ports.add(local.rpartition(":")[2])
            else:
                paths.add(local)
    return ports, paths


def test_a_crowd_keeps_nobody_out(
    person: Person, neighbour: Person, record: dict[str, str]
) -> None:
    """From the node itself and from the login node, at once."""
    node = person.cluster.host(record["node"])
    where = (record["node"], record["ssh_port"])
    crowds = [start(host, neighbour.user, CROWD, *where) for host in (node, person.login)]
    try:
        for crowd in crowds:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "full\n"
        for _ in range(5):
            said = person.ssh("echo here")
            assert said.stdout == "here\n", said.stderr
        sshds = node.run(["pgrep", "-c", "-u", person.user, "sshd"]).stdout
        assert 0 < int(sshds) <= 2 * 11, "ten strangers get one, and its child, at once"
    finally:
        rounds = [int(crowd.communicate()[0]) for crowd in crowds]
    assert min(rounds) > 400, "they went on all the time"


def test_own_keys_open_nothing(person: Person, neighbour: Person, record: dict[str, str]) -> None:
    """Neither the endpoint nor a step in the job lets another user in."""
    job, own = record["job_id"], neighbour.submit()
    own_record = neighbour.wait_for_session(own)
    assert record["node"] == own_record["node"]
    neighbour.on_login(
        *("sh", "-c"),
        "rm -f k; ssh-keygen -qt ed25519 -N '' -f k && jlab-node setup --authorize < k.pub",
    )
    options = ["-i", "k", "-oIdentitiesOnly=yes", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]

    def enter(port: str, user: str) -> subprocess.CompletedProcess[str]:
        command = ["ssh", *options, "-p", port, f"{user}@{record['node']}", "id", "-un"]
        return neighbour.login.run(command, neighbour.user)

    assert enter(own_record["ssh_port"], "u4").stdout == "u4\n", "the key opens its own session"
    for user in ("u2", "u4", "root"):
        done = enter(record["ssh_port"], user)
        assert done.returncode == 255
        assert "Permission denied (publickey)" in done.stderr
    step = {
        "slurm": ["srun", "--overlap", f"--jobid={job}", f"--nodelist={record['node']}", "id"],
        "oar": ["env", f"OAR_JOB_ID={job}", "oarsh", record["node"], "id"],
    }[person.site.scheduler]
    assert "(u2)" in person.on_login(*step)
    done = neighbour.login.run(step, neighbour.user)
    assert done.stdout == ""
    assert re.search("[Pp]ermission denied", done.stderr)
    done = neighbour.login.run([person.site.cancel, job], neighbour.user)
    assert job in person.jobs(), "and it cannot be ended"
