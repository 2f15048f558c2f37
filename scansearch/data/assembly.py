"""From files by split to a data set: the splits that are missing, and how the files are read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from scansearch.data.array_files import holds_arrays, look_at_arrays
from scansearch.data.augment import Augment, image_statistics, image_transforms
from scansearch.data.decoding import check_channels
from scansearch.data.names import PartName, counted, listed
from scansearch.data.pictures import Pictures, look_at
from scansearch.data.splits import ImageData, stratified_tenths
from scansearch.errors import InputError
from scansearch.text import printable

_SPLIT_SEED = 2024


def assemble(
    spec: str,
    what: str,
    parts: Mapping[PartName, Pictures],
    classes: tuple[str, ...],
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
    notes: Sequence[str] = (),
) -> ImageData:
    """Make the splits that are missing, in training first the test set, then the one for validation, of the rest.

    Args:
        parts: without ``train`` for scoring alone.
        scoring: the pictures are not learnt from, so none are held out: without a test set, those for validation
            are it, and without both all.
        brightest: of float and 32-bit pictures, as the model knows it; None for what fits these.

    Raises:
        InputError: nothing to train on, one class, or a class too small to be split.
    """
    arrays = holds_arrays(parts, what)
    parts, made = _for_scoring(parts) if scoring else _for_training(parts, classes, what)
    train, validation, test = (parts[part] for part in ("train", "validation", "test"))
    if arrays:
        array_set = look_at_arrays(train, (validation, test), augment, channels, what)
        channels, mean, deviation = array_set.channels, array_set.mean, array_set.deviation
        splits = [
            array_set.split(files, size, augment, augments=files is train)
            for files in (train, validation, test)
        ]
        top, kinds, contents = None, array_set.notes, array_set.contents
    else:
        channels = check_channels(channels or 3, spec)
        looked = look_at(list(parts.values()), channels, brightest)
        augmented, plain = image_transforms(augment, size, channels)
        mean, deviation = image_statistics(channels)
        splits = [
            files.split(
                augmented if files is train else plain, augments=files is train, decoder=looked.decoder
            )
            for files in (train, validation, test)
        ]
        top, kinds, contents = looked.brightest, looked.notes, looked.contents
    return ImageData(
        spec=spec,
        classes=classes,
        channels=channels,
        image_size=size,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        mean=mean,
        deviation=deviation,
        brightest=top,
        digest=_digest([train, validation, test], contents),
        notes=tuple(printable(note) for note in (*notes, *made, *kinds)),
    )


def _for_scoring(parts: Mapping[PartName, Pictures]) -> tuple[dict[PartName, Pictures], list[str]]:
    test = parts.get("test") or parts.get("validation") or parts["train"]
    validation = parts.get("validation") or test
    notes = [] if "test" in parts else [f"all {counted(len(test.labels), 'picture')} are scored"]
    return {"train": test.part([]), "validation": validation, "test": test}, notes


def _for_training(
    parts: Mapping[PartName, Pictures], classes: tuple[str, ...], what: str
) -> tuple[dict[PartName, Pictures], list[str]]:
    given = dict(parts)
    if "train" not in given:
        raise InputError(
            f"{what} holds pictures for {listed(given)} alone: they can be scored, not trained on"
        )
    notes = []
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
        notes.append("there is no test set, so the validation images are it")
    missing: list[PartName] = [part for part in ("test", "validation") if part not in given]
    if missing:
        counts = Counter(given["train"].labels)
        small = [name for label, name in enumerate(classes) if counts[label] <= len(missing)]
        if small:
            noun = "class" if len(small) == 1 else "classes"
            raise InputError(
                f"{what}: {noun} {listed(small)} {'has' if len(small) == 1 else 'have'} too few images to split "
                f"({len(missing) + 1} are needed for training and {' and '.join(reversed(missing))})"
            )
        notes.append(f"a tenth of each class's training pictures is held out for {' and for '.join(missing)}")
        train = given["train"]
        kept, *held = stratified_tenths(train.labels, len(missing), seed=_SPLIT_SEED)
        given |= {part: train.part(indices) for part, indices in zip(missing, held, strict=True)}
        given["train"] = train.part(kept)
    return given, notes


def _digest(splits: Sequence[Pictures], contents: bytes) -> str:
    digest = hashlib.sha256(contents)
    for pictures in splits:
        for key, label in zip(pictures.keys, pictures.labels, strict=True):
            digest.update(f"{pictures.source.short_name(key)}\0{label}\n".encode(errors="surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()
