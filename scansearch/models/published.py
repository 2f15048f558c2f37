"""The published genotypes, as literal data.

Directions are those of the released LocalMamba code (github.com/hunto/LocalMamba at commit 75e5d1f,
classification/lib/models/local_vim.py and local_vmamba.py). Its ``local_vim_small`` is defined twice, so that
the searched list is shadowed by the unsearched one; here ``localvim_small`` is the searched one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.text import choices

CANDIDATES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


def _layers(text: str) -> Layers:
    return tuple(tuple(line.split()) for line in text.strip().splitlines())


LOCALVIM_SEARCHED = _layers("""
    h v_flip w7 w7_flip
    h_flip w2_flip w7 w7_flip
    h h_flip v w7
    h h_flip v v_flip
    h h_flip v v_flip
    h h_flip v v_flip
    h_flip v v_flip w7
    h_flip v v_flip w2_flip
    h h_flip v v_flip
    h h_flip v v_flip
    h v v_flip w2
    h v v_flip w2_flip
    h h_flip v_flip w7
    h_flip v v_flip w2
    h h_flip v v_flip
    h v w2 w2_flip
    v v_flip w2 w7
    h h_flip v w2
    h h_flip w2_flip w7
    v v_flip w2 w2_flip
""")
LOCALVIM_UNSEARCHED: Layers = (("h", "h_flip", "w2", "w2_flip"),) * 20
LOCALVMAMBA_TINY_SEARCHED = _layers("""
    h h_flip w7 w7_flip
    h_flip v_flip w2 w2_flip
    h_flip v_flip w2_flip w7
    h_flip v v_flip w2
    h h_flip v_flip w2_flip
    h_flip v_flip w2 w2_flip
    h w2_flip w7 w7_flip
    h h_flip v v_flip
    h v_flip w7 w7_flip
    h_flip v w2 w7_flip
    v v_flip w2 w7_flip
    h h_flip v_flip w2_flip
    v_flip w2_flip w7 w7_flip
    h_flip v_flip w2_flip w7_flip
    h_flip v w7 w7_flip
""")
LOCALVMAMBA_SMALL_SEARCHED = _layers("""
    h v v_flip w7_flip
    h h_flip v w7
    h_flip v v_flip w7
    h_flip v w2_flip w7
    h_flip v w2_flip w7
    h_flip v_flip w2 w7_flip
    h_flip v v_flip w7
    h v v_flip w7
    h v v_flip w7
    h v v_flip w7_flip
    h h_flip v v_flip
    h v v_flip w2
    v v_flip w2_flip w7
    h h_flip v w2
    h_flip v v_flip w7_flip
    h h_flip v v_flip
    h v v_flip w7_flip
    h v v_flip w7_flip
    h h_flip v_flip w7
    h_flip v_flip w2_flip w7
    h_flip v v_flip w7_flip
    v v_flip w7 w7_flip
    h v v_flip w7_flip
    h_flip v v_flip w2
    h v v_flip w2_flip
    h h_flip v w7
    h h_flip w7 w7_flip
    h v_flip w2 w2_flip
    h v_flip w2 w7
    h v v_flip w7_flip
    h_flip v w2_flip w7
    h_flip v_flip w7 w7_flip
    h v w7 w7_flip
""")


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        family: as ``build_model`` takes it.
        layers: directions of each layer.
        arguments: sizes and switches, arguments of the family's class.
        parameters: their number at 1000 classes and 224 pixels.
        summary: one line.
    """

    family: str
    layers: Layers
    arguments: dict[str, Any] = field(hash=False)
    parameters: int = 0
    summary: str = ""


# What the released LocalVim does where newer practice differs.
_LOCALVIM = {
    "window_padding": "zero",
    "branch_attention": "channel",
    "dt_init": "released",
    "rope_resize": "tables",
}
_MIDDLE = {"class_token": "middle", "rope": False}
_VIM = {
    "class_token": "middle",
    "rope": False,
    "branch_attention": "none",
    "merge": "mean",
    "dt_init": "mamba",
}
_LOCALVMAMBA = {"window_padding": "zero", "branch_attention": "channel", "dt_init": "released"}
_VMAMBA = _LOCALVMAMBA | {"branch_attention": "none"}
_DIMS, _SEARCH_DIMS = (96, 192, 384, 768), (32, 64, 128, 256)
_TINY, _SMALL = (2, 2, 9, 2), (2, 2, 27, 2)
_CROSS = ("h", "h_flip", "v", "v_flip")

PUBLISHED: dict[str, Published] = {
    "localvim_tiny": Published(
        "local_vim", LOCALVIM_SEARCHED, {"embed_dim": 192, **_LOCALVIM}, 7_994_152, "LocalVim-T, searched"
    ),
    "localvim_tiny_midcls": Published(
        "local_vim",
        LOCALVIM_SEARCHED,
        {"embed_dim": 192, **_LOCALVIM, **_MIDDLE},
        7_994_536,
        "LocalVim-T with a middle class token",
    ),
    "localvim_tiny_nosearch": Published(
        "local_vim", LOCALVIM_UNSEARCHED, {"embed_dim": 192, **_LOCALVIM}, 7_994_152, "LocalVim-T, unsearched"
    ),
    "localvim_small": Published(
        "local_vim", LOCALVIM_SEARCHED, {"embed_dim": 384, **_LOCALVIM}, 27_783_784, "LocalVim-S, searched"
    ),
    "localvim_tiny_search": Published(
        "local_vim",
        (CANDIDATES,) * 20,
        {"embed_dim": 128, "weighted": True, **_LOCALVIM},
        5_473_288,
        "the supernet in which LocalVim-T was searched",
    ),
    "localvmamba_tiny": Published(
        "local_vmamba",
        LOCALVMAMBA_TINY_SEARCHED,
        {"dims": _DIMS, "depths": _TINY, **_LOCALVMAMBA},
        25_527_160,
        "LocalVMamba-T, searched",
    ),
    "localvmamba_small": Published(
        "local_vmamba",
        LOCALVMAMBA_SMALL_SEARCHED,
        {"dims": _DIMS, "depths": _SMALL, **_LOCALVMAMBA},
        49_748_536,
        "LocalVMamba-S, searched",
    ),
    "localvmamba_tiny_search": Published(
        "local_vmamba",
        (CANDIDATES,) * 15,
        {"dims": _SEARCH_DIMS, "depths": _TINY, "weighted": True, **_LOCALVMAMBA},
        4_576_656,
        "the supernet in which LocalVMamba-T was searched",
    ),
    "localvmamba_small_search": Published(
        "local_vmamba",
        (CANDIDATES,) * 33,
        {"dims": _SEARCH_DIMS, "depths": _SMALL, "weighted": True, **_LOCALVMAMBA},
        9_148_512,
        "the supernet in which LocalVMamba-S was searched",
    ),
    "vim_tiny": Published(
        "local_vim",
        (("h", "h_flip"),) * 24,
        {"embed_dim": 192, **_VIM},
        7_148_008,
        "Vim-T (arXiv 2401.09417)",
    ),
    "vim_small": Published(
        "local_vim",
        (("h", "h_flip"),) * 24,
        {"embed_dim": 384, **_VIM},
        25_796_584,
        "Vim-S (arXiv 2401.09417)",
    ),
    "vmamba_tiny": Published(
        "local_vmamba",
        (_CROSS,) * 15,
        {"dims": _DIMS, "depths": _TINY, **_VMAMBA},
        22_893_448,
        "VMamba-T, first version (arXiv 2401.10166v1)",
    ),
    "vmamba_small": Published(
        "local_vmamba",
        (_CROSS,) * 33,
        {"dims": _DIMS, "depths": _SMALL, **_VMAMBA},
        44_417_416,
        "VMamba-S, first version (arXiv 2401.10166v1)",
    ),
}


def published(name: str) -> Published:
    """The published model called ``name``.

    Raises:
        InputError: an unknown name.
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown model {name!r} {choices(name, PUBLISHED)}")
    return PUBLISHED[name]
