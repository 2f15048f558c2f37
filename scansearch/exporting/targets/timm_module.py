"""A short Python module that registers the model with timm under a name of the user's; needs scansearch."""

from __future__ import annotations

import keyword
from pathlib import Path

import torch

from scansearch.errors import InputError
from scansearch.exporting.check import compare, given, publish, run_child, staging
from scansearch.exporting.literals import literal
from scansearch.exporting.picture_settings import class_names, picture_settings
from scansearch.exporting.source import Source

SUFFIXES = (".py",)

_MODULE = '''"""Registers {name} with timm: import this module, then timm.create_model("{name}").

Genotype {hash} of family {family}, exported by scansearch. Weights are not part of this file.
"""

from timm.models import generate_default_cfgs, register_model

from scansearch.models import CONFIGURATION, create

DIRECTIONS = {directions}

ARGUMENTS = {arguments}

SETTINGS = {settings}

default_cfgs = generate_default_cfgs({{"{name}": {{**CONFIGURATION, **SETTINGS}}}})


@register_model
def {name}(pretrained=False, **kwargs):
    """{description}"""
    return create("{name}", "{family}", DIRECTIONS, pretrained, **(ARGUMENTS | kwargs))
'''

# A new process, because a name once registered with timm stays so.
_CHECK = """
import importlib.util, sys, timm, torch
path, name, folder = sys.argv[1:]
specification = importlib.util.spec_from_file_location("exported", path)
module = sys.modules["exported"] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
torch.set_num_threads(1)
given = torch.load(folder + "/given.pt", weights_only=True)
model = timm.create_model(name).eval()
model.load_state_dict(given["state"])
with torch.no_grad():
    torch.save(model(given["images"]), folder + "/logits.pt")
"""


def module_text(source: Source) -> str:
    """The module's source.

    Raises:
        InputError: a name that Python or timm cannot take.
    """
    import timm

    import scansearch.models  # noqa: F401 - its names are taken too

    name = source.name
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        raise InputError(
            f"--name {name!r}: must be letters, digits and underscores, as a Python function is called"
        )
    if timm.is_model(name):
        raise InputError(f"--name {name!r}: already registered with timm, choose another")
    directions = [list(names) for names in source.genotype.layers]
    settings = {
        "input_size": (source.model.in_chans, *source.image_size),
        "num_classes": source.model.num_classes,
        **picture_settings(source),
    }
    if names := class_names(source):
        settings["label_names"] = list(names)
    return _MODULE.format(
        name=name,
        hash=source.genotype.hash,
        family=source.genotype.family,
        directions=literal(directions),
        arguments=literal(source.all_arguments),
        settings=literal(settings),
        description=f"{type(source.model).__name__} with the directions of genotype {source.genotype.hash}.",
    )


def export(source: Source, out: Path) -> float:
    """Checked by creating the model through timm in a new process, with the source's weights."""
    text = module_text(source)
    with staging() as folder:
        staged = folder / f"{source.name}.py"
        staged.write_text(text, encoding="utf-8")
        images = source.images()
        (folder / "given.pt").write_bytes(given(source, images))
        run_child(_CHECK, folder, str(staged), source.name, str(folder))
        logits = torch.load(folder / "logits.pt", weights_only=True)
        difference = compare(source, lambda _: logits, tolerance=1e-5)
        publish(staged, out)
        return difference
