"""An example of every command, which its help ends with."""

from __future__ import annotations

EXAMPLES = {
    "run": "scansearch run --space vim8 --k 4 --data folder:PATH",
    "derive": "scansearch derive runs/NAME --k 3 --max-params 20M --out genotype.yaml",
    "train": "scansearch train runs/NAME --epochs 50",
    "evaluate": "scansearch evaluate runs/TRAINED --data folder:PATH",
    "predict": "scansearch predict runs/TRAINED picture.jpg --top 3",
    "show": "scansearch show runs/NAME",
    "list": "scansearch list runs",
    "compare": "scansearch compare runs/A runs/B --out comparison",
    "evolve": "scansearch evolve runs/NAME --max-flops 1.5G",
    "rank": "scansearch rank runs/NAME --samples 10",
    "probe": "scansearch probe --data folder:PATH",
    "export": "scansearch export runs/TRAINED --format onnx --out model.onnx",
    "costs": "scansearch costs vim8 --variant tiny",
    "plot": "scansearch plot runs/NAME --kind paths --image picture.jpg",
    "convert": "scansearch convert CHECKPOINT --model localvim_tiny --out weights.safetensors",
    "timm": "scansearch timm validate.py --model localvim_tiny --data-dir IMAGES",
    "published": "scansearch published --task segment",
    "spaces": "scansearch spaces",
    "directions": "scansearch directions --show w2_flip",
    "doctor": "scansearch doctor",
    "version": "scansearch version",
    "bench kernels": "scansearch bench kernels --size vim_k4",
    "bench models": "scansearch bench models --device cpu --batch-size 2",
    "bench search": "scansearch bench search --space vim8",
    "bench standalone": "scansearch bench standalone",
}


def example(command: str) -> str:
    """The last line of the help of ``command``."""
    return f"Example: {EXAMPLES[command]}"
