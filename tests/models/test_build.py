"""Arguments of models that come from files: of the right type and within bounds, before any memory is taken."""

from __future__ import annotations

from typing import Any

import pytest

from scansearch.errors import InputError
from scansearch.models import build_model

SIZES: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 8, "states": 2, "rope": False}
ODD = {
    "patch_size": ["8", 0.5, None, [8], True, 10**9],
    "img_size": ["8", [8, 8, 8], 10**9],
    "embed_dim": ["8", 8.5, [8], -4, 10**9, 32_768],
    "states": ["2", -1, 10**9],
    "expand": ["2", 10**9],
    "num_classes": ["4", -1, 10**9],
    "in_chans": [None, 10**9],
    "rope": ["yes", 2],
    "norm": [7, "none"],
    "merge": [None, []],
    "feature_levels": [3, ["a"]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD.items() for value in values]
)
def test_odd_arguments_are_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        build_model("local_vim", [["h", "v"]] * 2, **(SIZES | {name: value}))
    assert "\n" not in str(refused.value)


def test_too_many_layers_are_refused() -> None:
    with pytest.raises(InputError, match="is the most"):
        build_model("local_vim", [["h"]] * 2000, **SIZES)


def test_lists_stand_for_tuples() -> None:
    model = build_model(
        "local_vmamba", [["h"]] * 2, dims=[8, 16], depths=[1, 1], patch_size=2, img_size=[8, 12]
    )
    assert len(model.mixers) == 2
