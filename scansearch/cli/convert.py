"""``scansearch convert``: released checkpoints to ours, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="A .pth, .ckpt or .safetensors file.")]
Model = Annotated[str, typer.Option(help="Registered name, for example localvim_tiny.")]
Out = Annotated[Path, typer.Option(help="The .safetensors file to write.")]
Key = Annotated[str | None, typer.Option(help="Entry of the file to take, for example state_dict_ema.")]
ImageSize = Annotated[int, typer.Option("--image-size", help="Image side that the model was built for.")]
Back = Annotated[bool, typer.Option("--back", help="From our layout to the released one.")]


def convert(
    checkpoint: Checkpoint,
    model: Model,
    out: Out,
    key: Key = None,
    img_size: ImageSize = 224,
    back: Back = False,
) -> None:
    """Convert weights of the released LocalMamba (or Vim, VMamba) to scansearch's layout.

    Nothing in the file is executed; missing, unexpected or wrongly shaped entries are errors.
    """
    from safetensors.torch import save

    from scansearch.errors import InputError
    from scansearch.files.atomic import write_bytes
    from scansearch.files.outputs import check_file, make_folder
    from scansearch.models.checkpoints import convert_checkpoint
    from scansearch.records.lookup import expect_kind
    from scansearch.records.weights import has_genotype

    check_file(out, (".safetensors",))
    expect_kind(checkpoint, ("weights",), command="convert")
    if not back and checkpoint.suffix == ".safetensors" and has_genotype(checkpoint):
        raise InputError(
            f"{checkpoint} is in scansearch's layout already (--back converts it to the released one)"
        )
    state = convert_checkpoint(checkpoint, model, key=key, img_size=img_size, back=back)
    layout = "released" if back else "scansearch"
    make_folder(out.parent)
    write_bytes(out, save(state, metadata={"format": "pt", "model": model, "layout": layout}))
    values = sum(tensor.numel() for tensor in state.values())
    print(f"{out}: {len(state)} tensors, {values:,} values, {layout} layout of {model}")
