"""The laptop side: makes `ssh jlab+ALIAS` reach a session on a cluster."""

VERSION = "0.2.0"  # that of jlab_node, as a test holds; importlib.metadata would cost 30 ms
