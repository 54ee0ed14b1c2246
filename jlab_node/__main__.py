"""`python -m jlab_node`, and the command jlab-node."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
