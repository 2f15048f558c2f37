"""``scansearch convert``: released checkpoints to ours, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scansearch.cli.options import image_side, option

Checkpoint = Annotated[Path, typer.Argument(help="A .pth, .ckpt or .safetensors file.")]
Model = Annotated[str, typer.Option(help="Registered name, for example localvim_tiny.")]
Out = Annotated[Path, typer.Option(help="The .safetensors file to write.")]
Key = Annotated[str | None, typer.Option(help="Entry of the file to take, for example state_dict_ema.")]
ImageSize = Annotated[str, option("--image-size", help="Side, in pixels, that the model was built for")]
Back = Annotated[bool, typer.Option("--back", help="From our layout to the released one.")]


def convert(
    checkpoint: Checkpoint,
    model: Model,
    out: Out,
    key: Key = None,
    size: ImageSize = "224",
    back: Back = False,
) -> None:
    """Convert weights of the released LocalMamba (or Vim, VMamba) to scansearch's layout.

    Nothing in the file is executed; missing, unexpected or wrongly shaped entries are errors. What is written can be
    evaluated (with --data), exported and trained from; weights of half precision become float32.
    """
    from safetensors.torch import save

    from scansearch.errors import InputError
    from scansearch.files.atomic import write_bytes
    from scansearch.files.outputs import check_file, make_folder
    from scansearch.models.checkpoints import classes_of, convert_checkpoint
    from scansearch.records.lookup import expect_kind, published_genotype
    from scansearch.records.weights import has_model, save_weights

    check_file(out, (".safetensors",))
    expect_kind(checkpoint, ("weights",), command="convert")
    if not back and checkpoint.suffix == ".safetensors" and has_model(checkpoint):
        raise InputError(
            f"{checkpoint} is in scansearch's layout already (--back converts it to the released one)"
        )
    img_size = image_side(size)
    state = convert_checkpoint(checkpoint, model, key=key, img_size=img_size, back=back)
    make_folder(out.parent)
    if back:
        write_bytes(out, save(state, metadata={"format": "pt", "model": model, "layout": "released"}))
    else:
        genotype = published_genotype(model)
        arguments: dict[str, Any] = {"num_classes": classes_of(state), "img_size": img_size}
        network = genotype.build(**arguments)
        network.load_state_dict(state)
        save_weights(out, network, genotype, arguments, {"converted_from": checkpoint.name, "model": model})
    values = sum(tensor.numel() for tensor in state.values())
    layout = "released layout" if back else "scansearch's layout"
    print(f"{out}: {len(state)} tensors, {values:,} values, {layout} of {model}")
