"""The backbones: LocalVim and LocalVMamba over any scan directions; importing registers them with timm.

Modules that ``scansearch export --format timm`` writes import ``create`` and ``CONFIGURATION`` from here.
"""

from scansearch.models import localmamba as _localmamba  # noqa: F401  (registers the timm names)
from scansearch.models.build import build_model
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.merge import LayerGates
from scansearch.models.registry import CONFIGURATION, create

__all__ = ["CONFIGURATION", "LayerGates", "LocalVMamba", "LocalVim", "build_model", "create"]
