"""Registers exported_timm with timm: import this module, then timm.create_model("exported_timm").

Genotype 870ebf0d8278 of family local_vim, exported by scansearch. Weights are not part of this file.
"""

from timm.models import generate_default_cfgs, register_model

from scansearch.models.families import CONFIGURATION
from scansearch.models.registry import create

DIRECTIONS = [
    ["h", "v", "v_flip", "w7_flip"],
    ["h", "h_flip", "v", "w2_flip"],
    ["h", "h_flip", "v", "v_flip"],
]

ARGUMENTS = {
    "img_size": [28, 28],
    "window_padding": "skip",
    "branch_attention": "channel",
    "dt_init": "mamba",
    "merge": "sum",
    "patch_size": 2,
    "states": 8,
    "expand": 2,
    "rope": False,
    "embed_dim": 32,
    "drop_path_rate": 0.0,
    "num_classes": 10,
    "in_chans": 1,
}

default_cfgs = generate_default_cfgs({"exported_timm": {**CONFIGURATION, "input_size": (1, 28, 28)}})


@register_model
def exported_timm(pretrained=False, **kwargs):
    """LocalVim with the directions of genotype 870ebf0d8278."""
    return create("exported_timm", "local_vim", DIRECTIONS, pretrained, **(ARGUMENTS | kwargs))
