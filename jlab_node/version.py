"""The version of the distribution, without the 30 ms and 3 MB that importlib.metadata costs."""

VERSION = "0.2.0"
