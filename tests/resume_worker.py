"""What a test starts as each of several ranks: a run, and the same run again from one of its checkpoints."""

import shutil
import sys

import tiny_network  # noqa: F401  registers a backbone

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import distributed


def main(config_path, out, after):
    options = {"do_eval": True, "use_ema": True, "save_interval": 2, "log_iters": 4, "device": "cpu"}
    options.update(best_by="IoU:fence", early_stop_intervals=2)  # a class that no label holds: over at 6 of 8
    trainer.train(load_config(config_path), save_dir=out + "/whole", **options)
    checkpoint = f"{out}/resumed/iter_{after}"
    if distributed.rank() == 0:
        later = [f"iter_{i:d}" for i in range(int(after) + 1, 100)]  # where a best model is not to come from
        shutil.copytree(f"{out}/whole", f"{out}/resumed", ignore=shutil.ignore_patterns(*later))
    distributed.barrier()
    trainer.train(load_config(config_path), save_dir=out + "/resumed", resume_model=checkpoint, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
