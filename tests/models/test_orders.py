"""Order tables are shared: nobody may change them, and a changed one never reaches memory beside the rows."""

from __future__ import annotations

import pytest
import torch

from scansearch.models import build_model
from scansearch.models.orders import order_table, scan_orders

GRID = (("h", "v_flip"), 4, 6)


def test_a_table_cannot_be_written_to() -> None:
    orders, _ = order_table(*GRID, "skip", False)
    with pytest.raises(ValueError, match="read-only"):
        orders[0, 0] = 5


def test_a_tensor_changed_through_numpy_is_refused() -> None:
    """A backbone keeps the tensors; NumPy changes one without a new version of it."""
    sizes = {"img_size": 12, "patch_size": 2, "embed_dim": 8, "states": 2}
    model = build_model("local_vim", [["h", "v_flip"]], num_classes=3, **sizes).eval()
    images = torch.randn(1, 3, 12, 12)
    expected = model(images)
    orders, _ = scan_orders(
        ("h", "v_flip"), 6, 6, padding="skip", class_token=False, device=torch.device("cpu")
    )
    kept = int(orders[1, 3])
    orders.numpy()[1, 3] = 10**8
    try:
        with pytest.raises(ValueError, match="must hold indices from -1 to 35"):
            model(images)
    finally:
        orders.numpy()[1, 3] = kept
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
