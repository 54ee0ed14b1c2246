"""OAR on gricad, with the nodes d1 and d2."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .hosts import wait_until
from .image import PATH

if TYPE_CHECKING:
    from .hosts import Host

LOGIN = "gricad"
NODES = ("d1", "d2")
PROGRAMS = ("oarstat", "oarsub", "oarsh", "oardel", "oarnodes", "oarhold", "oarwalltime")
CORES = 32

_CONFIG = {
    "SERVER_HOSTNAME": LOGIN,
    "DB_HOSTNAME": LOGIN,
    "DB_BASE_PASSWD": "oar",
    "DB_BASE_PASSWD_RO": "oar_ro",
    "LOG_LEVEL": "3",
    "OARSUB_DEFAULT_RESOURCES": "/core=1",
    "SCHEDULER_PRIORITY_HIERARCHY_ORDER": "network_address/core",
    "SCHEDULER_JOB_SECURITY_TIME": "5",
    "SCHEDULER_MIN_TIME_BETWEEN_2_CALLS": "0",
    "JOBDEL_SOFTWALLTIME": "10",
    "JOBDEL_WALLTIME": "30",
    "FINAUD_FREQUENCY": "30",
    "WALLTIME_CHANGE_ENABLED": "yes",
    "WALLTIME_MAX_INCREASE": "-1",
}
_CREATED = "/var/lib/oar/created"
# Every core of the "nodes" gets one of the machine's own by turns.
_RESOURCES = f"""
INSERT INTO resources (network_address, host, cpu, core, cpuset, state)
    SELECT 'd' || node, 'd' || node, node, (node - 1) * {CORES} + core, core % $(nproc), 'Alive'
    FROM generate_series(1, {len(NODES)}) node, generate_series(1, {CORES}) core
    ORDER BY node, core;
INSERT INTO resource_logs (resource_id, attribute, value, date_start)
    SELECT resource_id, 'state', state, extract(epoch FROM now()) FROM resources;
"""
_CREATE = f"""
su postgres -c 'dropdb --if-exists oar; dropuser --if-exists oar; dropuser --if-exists oar_ro'
oar-database --create --db-is-local
oarproperty -a cpu
oarproperty -a core
oarproperty -c -a host
su postgres -c 'psql -q -v ON_ERROR_STOP=1 oar' <<END
{_RESOURCES}
END
touch {_CREATED}
"""
_START_DATABASE = """
cd /etc/postgresql/*/main
grep -q jlab pg_hba.conf || {
    echo 'host oar all samenet md5 # jlab' >>pg_hba.conf
    echo "listen_addresses = '*'" >>postgresql.conf
    echo 'fsync = off' >>postgresql.conf
}
install -d -o postgres -g postgres -m 2775 /run/postgresql
rm -f /var/lib/postgresql/*/main/postmaster.pid
version=$(basename $(dirname $PWD))
pg_ctlcluster $version main start
"""


def configure(host: Host) -> None:
    """OAR's part of /etc, before the host starts."""
    source = host.files.parents[1] / "image/upper/etc/oar/oar.conf"
    text = source.read_text()
    for name, value in _CONFIG.items():
        text = re.sub(f"(?m)^{name}=.*\n", "", text) + f'{name}="{value}"\n'
    target = host.files / "etc/oar/oar.conf"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    target.chmod(0o600)  # the passwords; the commands that users run are set-uid
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)


def start(host: Host) -> None:
    """The services of one host."""
    host.run(["install", "-o", "oar", "-m", "644", "/dev/null", "/var/log/oar.log"], check=True)
    if host.name != LOGIN:
        options = ["-f/etc/oar/sshd_config", "-oPidFile=/run/oar-sshd.pid", f"-oSetEnv=PATH={PATH}"]
        host.run(["/usr/sbin/sshd", *options], check=True)
        return
    host.run(["sh", "-ec", _START_DATABASE], check=True)
    host.run(["sh", "-ec", f"[ -e {_CREATED} ] || {{ {_CREATE} }}"], check=True)
    host.run(["/etc/init.d/oar-server", "start"], check=True)


def wait(login: Host, nodes: tuple[str, ...] = NODES) -> None:
    """Until the nodes take jobs. That a node is back, OAR has to be told."""
    for node in nodes:
        login.run(["oarnodesetting", "-s", "Alive", "-h", node], check=True)

    def ready() -> bool:
        states = [login.run(["oarnodes", "-s", node]).stdout for node in nodes]
        return all(set(re.findall(r": (\w+)$", each, re.MULTILINE)) == {"Alive"} for each in states)

    wait_until(ready, "OAR's nodes are alive", seconds=60)
