"""A model with random images: what a benchmark of models times, in inference and in training."""

from __future__ import annotations

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Workload:
    """A model, random images, and what is timed."""

    def __init__(
        self, model: nn.Module, device: str, batch: int, image_size: int, dtype: torch.dtype
    ) -> None:
        self.model, self.device, self.batch = model, device, batch
        self.images = torch.randn(batch, 3, image_size, image_size, device=device)
        self.labels = torch.zeros(batch, dtype=torch.long, device=device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        self.dtype = dtype if dtype != torch.float32 else None

    @property
    def parameters(self) -> int:
        """How many the model has."""
        return sum(entry.numel() for entry in self.model.parameters())

    def _logits(self) -> torch.Tensor:
        kind, mixed = self.device.split(":")[0], self.dtype is not None
        with torch.autocast(kind, dtype=self.dtype, enabled=mixed):
            logits: torch.Tensor = self.model(self.images)
        return logits

    def infer(self) -> None:
        """Once forward, in evaluation."""
        self.model.eval()
        with torch.inference_mode():
            self._logits()

    def train(self) -> None:
        """One step: forward, backward, optimizer."""
        self.model.train()
        nn.functional.cross_entropy(self._logits().float(), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def on_cuda(self, repeats: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Images per second and peaks in MiB, of inference and of training."""
        from scansearch_kernels.bench.timing import milliseconds

        rates, peaks = [], []
        for function in (self.infer, self.train):
            torch.cuda.reset_peak_memory_stats()
            rates.append(1e3 * self.batch / milliseconds(function, self.device, repeats, warmup=2))
            peaks.append(torch.cuda.max_memory_allocated() / 2**20)
        return (rates[0], rates[1]), (peaks[0], peaks[1])
