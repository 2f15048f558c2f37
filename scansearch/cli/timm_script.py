"""``scansearch timm``: a script of timm's, or of anybody's, that knows our models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Script = Annotated[
    Path, typer.Argument(help="A Python file, such as timm's validate.py.", metavar="SCRIPT.py")
]
Arguments = Annotated[list[str] | None, typer.Argument(help="Its arguments.", metavar="ARGUMENTS")]

# Everything after the script is the script's, whatever it looks like.
SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def timm_script(script: Script, arguments: Arguments = None) -> None:
    """Run a Python script with our models registered in timm and our operations counted by fvcore.

    For timm's own train.py, validate.py, inference.py and benchmark.py, which know nothing of other packages:

        scansearch timm validate.py --model localvim_tiny --checkpoint FILE --data-dir IMAGES
    """
    import runpy
    import sys

    import scansearch.models  # noqa: F401 - registers the models
    from scansearch.costing.jit_handles import count_in_fvcore
    from scansearch.errors import InputError

    if not script.is_file():
        raise InputError(f"no script {str(script)!r}")
    count_in_fvcore()
    sys.argv = [str(script), *(arguments or [])]
    sys.path.insert(0, str(script.parent.absolute()))  # as `python SCRIPT` does
    runpy.run_path(str(script), run_name="__main__")
