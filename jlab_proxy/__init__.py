"""The laptop side: makes `ssh jlab+ALIAS` reach a session on a cluster."""
