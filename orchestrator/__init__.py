"""Ratssaal: a town's own video conferences, provisioned, hardened and proven."""

__version__ = "0.1.0"
