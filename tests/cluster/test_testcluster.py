"""The test cluster itself: a second `up` disturbs nothing, and mends what killed tests left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testcluster import Cluster

    from tests.cluster.conftest import Site


def test_up_again(cluster: Cluster, site: Site) -> None:
    names = [site.login, *site.nodes, "laptop", "bastion"]
    before = [cluster.host(name).pid for name in names]
    login = cluster.host(site.login)
    login.run(["mv", "/usr/bin/tac", "/usr/bin/tac.away"], check=True)
    login.run(["ip", "rule", "add", "ipproto", "tcp", "dport", "9", "prohibit"], check=True)
    cluster.up([site.scheduler])
    assert [cluster.host(name).pid for name in names] == before
    assert login.run(["tac"], input="a\nb\n", check=True).stdout == "b\na\n"
    assert "prohibit" not in login.run(["ip", "rule"], check=True).stdout


def test_each_host_is_one(cluster: Cluster, site: Site) -> None:
    """Its own name, /tmp and processes; homes are shared within a cluster, and only there."""
    login, node = cluster.host(site.login), cluster.host(site.nodes[0])
    for host in (login, node):
        assert host.run(["hostname"]).stdout.strip() == host.name
        host.run(["touch", f"/tmp/of-{host.name}"], check=True)
    try:
        login.run(["touch", "shared"], "u3", check=True)
        assert "shared" in node.run(["ls", "/home/u3"], "u3").stdout.split()
        assert f"of-{login.name}" not in node.run(["ls", "/tmp"]).stdout.split()
        assert login.run(["test", "-e", "/home/l3"]).returncode
        seen = node.run(["ps", "-eo", "args="]).stdout
        assert "sshd" in seen
        assert not {"slurmctld", "oar-server", "postgres"} & set(seen.split())
    finally:
        login.run(["rm", "-f", "/home/u3/shared"])
        for host in (login, node):
            host.run(["rm", "-f", f"/tmp/of-{host.name}"])
