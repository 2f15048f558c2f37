"""``scansearch predict``: the likeliest classes of pictures without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scansearch.cli.options import AsJson, Device, option

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A training's run folder, a .safetensors weight file, a timm hub folder, a .pt2 or a .onnx file.",
    ),
]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.")]
Out = Annotated[
    Path | None, option(help="Folder for the pictures with the masks or objects that were found on them")
]
Top = Annotated[int, option(help="Classes to show of each picture")]


def predict(
    model: Model,
    images: Images,
    top: Top = 5,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tell the likeliest classes of pictures, with their probabilities; of a model for masks or objects, what it finds.

    Pictures become what they were in the training's evaluation. One that cannot be read is named, the others are
    predicted all the same, and the exit code is 1.
    """
    from scansearch.cli.screen import print_json, print_table, print_warning
    from scansearch.errors import InputError, RunStopped
    from scansearch.evaluation.dense_predictions import open_dense
    from scansearch.evaluation.loading import load
    from scansearch.evaluation.predictions import Prediction, pictures_in
    from scansearch.evaluation.predictions import predict as predict_files

    files = pictures_in(images)
    dense = open_dense(model, device=device or "auto", command="predict")
    if dense is not None:
        from scansearch.cli.dense_predict import predict_pictures

        predict_pictures(dense, files, device=device or "auto", out=out, as_json=as_json)
        return
    if out is not None:
        raise InputError(f"--out is for what is found on pictures: {model!r} tells classes of whole ones")
    loaded = load(model, device=device or "auto", command="predict")
    rows: list[Prediction] = []
    records: list[dict[str, Any]] = []
    broken = 0
    for result in predict_files(loaded, files, top=top):
        if isinstance(result, Prediction):
            rows.append(result)
            shares = zip(result.classes, result.probabilities, strict=True)
            classes = [{"class": name, "probability": share} for name, share in shares]
            records.append({"image": result.image, "classes": classes})
        else:
            broken += 1
            print_warning(f"warning: {result}")
            records.append({"image": result.name, "error": result.reason})
    if as_json:
        print_json(records)
    elif rows:
        print_table(("image", "classes"), map(_cells, rows), left=2)
    if broken:
        raise RunStopped(f"{broken} of {len(files)} images could not be read")


def _cells(row: Any) -> tuple[str, str]:
    shares = zip(row.classes, row.probabilities, strict=True)
    return row.image, "  ".join(f"{name} {100 * share:.2f} %" for name, share in shares)
