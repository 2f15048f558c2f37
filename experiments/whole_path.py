"""The whole path in one file: from a search space to an exported model, through the public API alone.

    python experiments/whole_path.py --out runs/whole_path

Two epochs each of search and training by default, which shows the way and gives no good model; more with --epochs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import scansearch


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="vim8", help="a space's name or file")
    parser.add_argument("--data", default="digits", help="a data specification")
    parser.add_argument("--k", type=int, default=4, help="directions per layer")
    parser.add_argument("--epochs", type=int, default=2, help="of the search, and of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/whole_path"))
    options = parser.parse_args(arguments)
    out, shared = options.out, {"epochs": options.epochs, "seed": options.seed}

    space = scansearch.load_space(options.space)
    result = scansearch.search(space, data=options.data, k=options.k, out=out / "search", **shared)
    genotype = scansearch.derive(result.preferences, k=options.k, space=space)
    genotype.save(out / "genotype.yaml")
    for index, layer in enumerate(genotype.layers):
        print(f"layer {index}: {' '.join(layer)}")

    trained = scansearch.train(genotype, data=options.data, out=out / "train", **shared)
    score = scansearch.evaluate(trained.run.folder)
    print(f"test accuracy: {score.top1:.2f} % after {options.epochs} epochs")

    exported = scansearch.export(trained.run.folder, "standalone", out / "model.py")
    print(
        f"{exported.out}: the model in one file that needs torch alone, logits within {exported.difference:.1e}"
    )
    print(f"{trained.run.folder / 'best.safetensors'}: its weights")


if __name__ == "__main__":
    main()
