"""Signals while a run is driven: always the line that says how to go on, never a half-told end."""

import signal

import pytest

from scansearch.runs.signals import Interrupted, interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_tells_how_to_go_on(number, tmp_path):
    before = signal.getsignal(number)
    folder = tmp_path / "my run"
    told = f"scansearch run --resume '{folder}'"
    with pytest.raises(Interrupted, match=told) as caught, interruptible(folder, "run"):
        signal.raise_signal(number)
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
