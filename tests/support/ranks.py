"""Five steps of one update on as many processes as torchrun starts; rank 0 saves what the parameters became.

Run by test_distributed.py: ``torchrun --nproc_per_node N ranks.py OUT STRATEGY...``
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from safetensors.torch import save_file
from support.planted import made_data
from support.tiny import TINY_SPACE

from scansearch.engine.devices import check_equal_on_all_processes, make_accelerator
from scansearch.engine.loop import drive
from scansearch.files.strict import validate
from scansearch.records.space import SearchSpace
from scansearch.searching.config import search_config
from scansearch.searching.task import SearchTask


def main(out: str, strategies: list[str]) -> None:
    saved = {}
    space = validate(TINY_SPACE, SearchSpace, source="tiny space")
    for strategy in strategies:
        config = search_config(
            space="tiny-test",
            strategy=strategy,
            k=2,
            epochs=2,
            batch_size=16,
            seed=3,
            alphas={"warmup_epochs": 0},
        )
        accelerator = make_accelerator("cpu", "no")
        task = SearchTask(config, space, made_data(64), accelerator)
        for event in drive(task, seed=3, rank=accelerator.process_index):
            if event.step == 5:
                break
        check_equal_on_all_processes(accelerator, task.supernet.alphas, "alphas")
        check_equal_on_all_processes(accelerator, list(task.supernet.weights.values()), "weights")
        for index, alpha in enumerate(task.supernet.alphas):
            saved[f"{strategy}.alpha.{index}"] = alpha.detach()
        for name, weight in task.supernet.weights.items():
            saved[f"{strategy}.weight.{name}"] = weight.detach()
        if accelerator.is_main_process:
            save_file(saved, f"{out}.{accelerator.num_processes}")
        accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
