"""The import path of ``CONFIGURATION`` in modules exported by earlier versions; new ones use ``scansearch.models``."""

from scansearch.models.registry import CONFIGURATION

__all__ = ["CONFIGURATION"]
