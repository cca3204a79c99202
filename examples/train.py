"""A training from Python: a wide network that has seen 1,300 digits teaches a narrow one that has 52 of them.

    python examples/train.py [FOLDER]

Trains with transfer, with the source shuffled and without transfer, each with the same three seeds, into folders below
FOLDER (default: runs/example). Run again, it trains nothing. Three epochs are too short for a gain: the preset takes
60, and docs/results.md says what it reaches. examples/compare_ablations.py compares what this leaves.
"""

import sys
from pathlib import Path

from mergenet import export_run, load_config, train_run

SEEDS = (1, 2, 3)
VARIANTS = {
    "transfer": ["transfer.control=real"],
    "shuffled": ["transfer.control=shuffled"],
    "none": ["method=none"],
}
DATA = ["source.data.name=digits", "target.data.name=digits", "source.data.image_size=8", "target.data.image_size=8"]
SMALL = ["epochs=3", "target.data.train_fraction=0.04"]


def main(folder: Path) -> None:
    for variant, changes in VARIANTS.items():
        for seed in SEEDS:
            # a preset, changed as by --set on the command line
            config = load_config("shared-inputs", [*DATA, *SMALL, *changes, f"seed={seed}"])
            run = folder / f"{variant}-{seed}"
            accuracy = max([result.metrics["target_val_top1"] for result in train_run(config, run)], default=None)
            print(run, "was there" if accuracy is None else f"best val top1 {100 * accuracy:.1f} %")
    # the plain target network, which loads with torch alone
    print("exported:", *export_run(folder / "transfer-1", "safetensors"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
