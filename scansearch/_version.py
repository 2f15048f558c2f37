"""The one place with the number of this version."""

__version__ = "0.1.0"
