"""Made images with a known answer, and a candidate whose output is noise. Shared by the tests of searching."""

from __future__ import annotations

import torch

from scansearch.data import ImageData, Split
from scansearch.searching.supernet import Supernet


def made_data(count: int = 64, size: int = 8, classes: int = 4, seed: int = 0) -> ImageData:
    """Images of one bright bar on noise; the class is where the bar is and whether it stands or lies."""
    generator = torch.Generator().manual_seed(seed)

    def split(n: int, augments: bool = False) -> Split:
        labels = torch.arange(n) % classes
        images = 0.3 * torch.randn(n, 1, size, size, generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            place = size // 4 + (size // 2) * (label // 2)
            (image[0, place] if label % 2 else image[0, :, place]).add_(2.0)
        return Split(n, lambda i: (images[i], int(labels[i])), augments, labels.tolist())

    return ImageData(
        spec="bars",
        classes=tuple(str(i) for i in range(classes)),
        channels=1,
        image_size=(size, size),
        train=split(count),
        validation=split(count // 2),
        test=split(count // 2),
    )


def plant_noise(supernet: Supernet, index: int) -> None:
    """Replace the output of candidate ``index`` of every layer by noise, just before the branches are merged."""
    for mixer in supernet.mixers:
        active: list[tuple[int, ...]] = [()]

        def note(module, args, kwargs, active=active) -> None:
            gates = kwargs.get("gates", args[3] if len(args) > 3 else None)
            active[0] = tuple(range(len(module.directions))) if gates is None else gates.active

        def replace_branch(module, args, active=active):
            y, *rest = args
            if index not in active[0]:
                return args
            place = active[0].index(index)
            noise = torch.randn(y[:, place].shape, dtype=y.dtype)
            return (torch.cat([y[:, :place], noise[:, None], y[:, place + 1 :]], dim=1), *rest)

        mixer.register_forward_pre_hook(note, with_kwargs=True)
        mixer.merge.register_forward_pre_hook(replace_branch)
