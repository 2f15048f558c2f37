"""The backbones: LocalVim and LocalVMamba over any scan directions; importing registers them with timm."""

from scansearch.models import families as _families  # noqa: F401  (registers the timm names)
from scansearch.models.build import build_model
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.merge import LayerGates

__all__ = ["LayerGates", "LocalVMamba", "LocalVim", "build_model"]
