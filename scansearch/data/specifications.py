"""How data are specified, by kind. Names only, so importing this is free."""

from __future__ import annotations

SPECIFICATIONS = {
    "digits": "digits",
    "folder": "folder:PATH",
    "timm": "timm:NAME",
    "fake": "fake:HxW:classes",
    "translated-digits": "translated-digits",
}
