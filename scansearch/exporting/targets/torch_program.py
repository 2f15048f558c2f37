"""A ``.pt2`` program for any number of images at a time; torch alone loads and runs it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scansearch.exporting.check import compare, publish, staging
from scansearch.exporting.read_program import TREATMENT, load_program
from scansearch.exporting.source import Source
from scansearch.exporting.targets.standalone_file import plain_model

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = (".pt2",)


def trace(model: nn.Module, source: Source) -> torch.export.ExportedProgram:
    """``model`` as a graph of plain torch operations with a dynamic batch, without the source lines of this machine."""
    images = source.images(3)
    with torch.no_grad():
        model(images)  # keeps the scan orders, which then are constants of the graph
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(key, None)
    return program


def export(source: Source, out: Path) -> float:
    """Checked by loading the file and running it on other numbers of images than it was traced with."""
    program = trace(plain_model(source), source)
    with staging() as folder:
        staged = folder / "model.pt2"
        extra = {}
        if source.treatment is not None:
            extra[TREATMENT] = source.treatment.model_dump_json()
        buffer = io.BytesIO()  # where a disk is full, torch's writer of files ends the process
        torch.export.save(program, buffer, extra_files=extra)
        staged.write_bytes(buffer.getvalue())
        module = load_program(staged).module()

        def predict(images: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return module(images)

        difference = compare(source, predict, tolerance=1e-5, batches=(1, 2))
        publish(staged, out)
        return difference
