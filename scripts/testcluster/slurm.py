"""Slurm on cal1, with the nodes n1 and n2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hosts import wait_until

if TYPE_CHECKING:
    from .hosts import Host

LOGIN = "cal1"
NODES = ("n1", "n2")
PROGRAMS = ("squeue", "sbatch", "srun", "salloc", "scancel", "scontrol", "sinfo", "sacct")

_CONFIG = """\
ClusterName=cal1
SlurmctldHost=cal1
AuthType=auth/munge
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
# No cgroups: several nodes share one kernel here.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
# Jobs start at once, and squeue --start knows soon when the others will.
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=200000,batch_sched_delay=0
SlurmdTimeout=60
SlurmctldTimeout=60
KillWait=5
MinJobAge=300
InactiveLimit=0
# More processors than the machine has.
SlurmdParameters=config_overrides
NodeName=n[1-2] CPUs=64 RealMemory=1000000
PartitionName=normal Nodes=n[1-2] Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
"""


def configure(host: Host) -> None:
    """Slurm's part of /etc, before the host starts."""
    etc = host.files / "etc/slurm"
    etc.mkdir(exist_ok=True)
    (etc / "slurm.conf").write_text(_CONFIG)
    (etc / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")


def start(host: Host) -> None:
    """The services of one host; munge's key is the image's, and so the same everywhere."""
    host.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
    host.run(["/usr/sbin/munged"], "munge", check=True)
    directories = ["/var/lib/slurm", "/var/lib/slurm/slurmctld", "/var/log/slurm"]
    host.run(["install", "-d", "-o", "slurm", "-g", "slurm", *directories], check=True)
    daemon = ["slurmctld"] if host.name == LOGIN else ["slurmd", "-b"]  # -b: the node was rebooted
    host.run(daemon, check=True)


def wait(login: Host, nodes: tuple[str, ...] = NODES) -> None:
    """Until the nodes take jobs."""

    def ready() -> bool:
        states = login.run(["sinfo", "-h", "-N", "-n", ",".join(nodes), "-o", "%T"]).stdout.split()
        return len(states) == len(nodes) and set(states) <= {"idle", "mixed", "allocated"}

    wait_until(ready, "Slurm's nodes are idle", seconds=60)
