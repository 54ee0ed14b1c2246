"""A test cluster on one machine: real Slurm and real OAR, on hosts made of namespaces."""

from .cluster import Cluster
from .hosts import Host

__all__ = ["Cluster", "Host"]
