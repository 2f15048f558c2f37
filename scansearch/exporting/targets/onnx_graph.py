"""An ONNX graph for any number of images at a time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scansearch.errors import MissingExtra
from scansearch.exporting.check import compare, publish, staging
from scansearch.exporting.source import Source
from scansearch.exporting.targets.standalone_file import plain_model
from scansearch.exporting.targets.torch_program import trace

SUFFIXES = (".onnx",)


def onnx_graph(source: Source) -> Any:
    """The model as an ``onnx.ModelProto``, with input ``images`` and output ``logits``.

    Raises:
        MissingExtra: a package of the extra ``onnx`` is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx", "export to ONNX")
    program = trace(plain_model(source), source)
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
            optimize=False,
        )
        assert exported is not None
        _simplify(exported.model)
    graph = exported.model_proto
    _tidy(graph)
    if source.treatment is not None:
        entry = graph.metadata_props.add()
        entry.key, entry.value = "treatment", source.treatment.model_dump_json()
    return graph


def _simplify(model: Any) -> None:
    """Compute what is constant, and drop what is double or unused.

    The exporter's own ``optimize=True`` also tries every rewriting rule at every node, which takes three times as
    long as all the rest and finds hardly anything in these graphs.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    for tidying in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
    ):
        tidying(model)


def _tidy(graph: Any) -> None:
    """Call the dynamic axis "batch", and drop the exporter's notes, which name files of this machine."""
    inner = graph.graph
    graph.producer_name, inner.name = "scansearch", "classifier"
    symbol = inner.input[0].type.tensor_type.shape.dim[0].dim_param
    values = [*inner.input, *inner.output, *inner.value_info]
    for part in (graph, inner, *inner.node, *inner.initializer, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = re.sub(rf"\b{symbol}\b", "batch", dim.dim_param)


def session(path: Path) -> Any:
    """An onnxruntime session of the file, on one CPU thread as torch's checks are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def export(source: Source, out: Path) -> float:
    """Checked by onnx's own checker, and in onnxruntime on other numbers of images than it was traced with."""
    graph = onnx_graph(source)
    import onnx

    with staging() as folder:
        staged = folder / "model.onnx"
        onnx.save(graph, staged)
        onnx.checker.check_model(staged)
        running = session(staged)

        def predict(images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(running.run(["logits"], {"images": images.numpy()})[0])

        difference = compare(source, predict, tolerance=1e-4, batches=(1, 2))
        publish(staged, out)
        return difference


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and its warnings about its own parts."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
