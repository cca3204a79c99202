"""The folder of an ablation, which looks like that of a sweep: run folders below trials/, the source beside them.

ablation.yaml   what varies, with how many seeds    sweep.json      status, versions, time spent
base.yaml       the centre                          variants.json   each variant as a whole configuration
source/         the recorded source                 .lock           held by the driver
trials/NAME/    the first seed of a variant, role trial; trials/NAME-seed-2/ and so on the others
ablation.csv, .md, .tex, .json    the table, once it is there; interactions.csv
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.names import RUNNING
from mergenet.config.loading import dump_yaml
from mergenet.errors import ConfigError, WriteError
from mergenet.records.atomic import remove, write_text
from mergenet.records.command import running_command
from mergenet.records.sealed import read_record, write_record
from sweeps.ablation.schema import ADJUSTABLE, AblationConfig, dump_ablation, fixed, load_ablation, parse_ablation
from sweeps.ablation.variants import DAMAGED, LeftOut, Variant, as_record, from_record
from sweeps.driver.metadata import note_inputs, write_status
from sweeps.tracking.remote_copy import check_url
from sweeps.trials.files import COMMAND, STATE_FILE, read_state
from sweeps.trials.sweep_dir import (
    ABLATION_FILE,
    BASE_FILE,
    FIRST,
    VARIANTS_FILE,
    holds_ablation,
    is_rest,
    is_used,
    only,
)

if TYPE_CHECKING:
    from sweeps.ablation.plan import AblationPlan  # torch


def check_free(folder: Path) -> None:
    """Raises ConfigError unless the folder is new, empty, or what a kill left of one that was begun."""
    if is_used(folder) and not (is_rest(folder) and only(FIRST, folder)):
        what = ", which holds another ablation" if holds_ablation(folder) else ""
        raise ConfigError(
            f"the folder of an ablation must be new, empty or hold this very ablation, got {str(folder)!r}{what}; "
            "choose another folder (--dir)" + (", or delete it with overwrite=True (--overwrite)" if what else "")
        )


def write_new(plan: "AblationPlan", folder: Path, copy_to: str | None = None) -> None:
    """The files that the folder holds from the start, ablation.yaml last. Raises WriteError, and leaves none then."""
    own: dict[str, Any] = {"base_hash": plan.as_sweep.base_hash, "copy": copy_to, COMMAND: running_command()}
    try:
        write_status(folder, plan.as_sweep, RUNNING, **own)
        note_inputs(folder, plan.as_sweep)
        write_text(folder / BASE_FILE, dump_yaml(plan.variants[0].checked))
        write_record(folder / VARIANTS_FILE, as_record(plan.variants, plan.left_out))
        write_text(folder / ABLATION_FILE, dump_ablation(plan.ablation))
    except WriteError:
        for name in (ABLATION_FILE, VARIANTS_FILE, BASE_FILE, STATE_FILE):
            remove(folder / name)
        raise


def read_variants(folder: Path) -> tuple[list[Variant], list[LeftOut]]:
    """Raises UserError if the file is missing or damaged."""
    path = folder / VARIANTS_FILE
    return from_record(read_record(path, DAMAGED), path)


def load_folder(folder: Path) -> AblationConfig:
    """Raises ConfigError if the folder holds no ablation."""
    if not holds_ablation(folder):
        raise ConfigError(
            f"{str(folder)!r} must be the folder of an ablation, with {ABLATION_FILE}, {STATE_FILE} and {BASE_FILE}; "
            "`mergenet sweep ablate` makes one"
        )
    return load_ablation(folder / ABLATION_FILE)


def is_this(folder: Path, ablation: AblationConfig, variants: Sequence[Variant]) -> bool:
    """Whether the folder holds this very ablation, perhaps with fewer seeds. variants: before any was tried out.

    Of these the folder may lack some, which could not train.
    """
    if not holds_ablation(folder) or fixed(load_folder(folder)) != fixed(ablation):
        return False
    there, left_out = read_variants(folder)
    tried = {one.label for one in left_out}
    return [one for one in variants if one in there or one.label not in tried] == there


def adjusted(folder: Path, changes: dict[str, Any]) -> AblationConfig:
    """The ablation of the folder with other seeds, slots and the like; it is written by who goes on with it.

    Raises ConfigError for fewer seeds than there are.
    """
    there = load_folder(folder)
    if strange := sorted(changes.keys() - set(ADJUSTABLE)):
        raise ConfigError(
            f"{', '.join(strange)} must stay what it is in an ablation that has begun, in {str(folder)!r}; only "
            f"{', '.join(ADJUSTABLE)} may change: choose another folder (--dir)"
        )
    if there.top not in (None, 1) and changes.get("seeds", there.seeds) != there.seeds:
        raise ConfigError(
            f"seeds must stay {there.seeds} in {str(folder)!r}, got {changes['seeds']}: they decide which trial is "
            "rejected when; choose another folder (--dir)"
        )
    if changes.get("seeds", there.seeds) < there.seeds:
        raise ConfigError(
            f"seeds must be at least {there.seeds}, which the ablation in {str(folder)!r} has, got "
            f"{changes['seeds']}; choose another folder (--dir) for fewer"
        )
    own = there.model_dump(mode="json")
    return parse_ablation(own | changes | {"wandb": own["wandb"] | dict(changes.get("wandb", {}))}, "the ablation")


def check_copy(folder: Path, copy_to: str | None) -> None:
    """Raises ConfigError if an ablation that has begun is to be copied elsewhere than it is. None: as it is."""
    if copy_to is None or copy_to == (own := read_state(folder).get("copy")):
        return
    check_url(copy_to)
    raise ConfigError(
        f"copy_to (--copy-to) must be {own or 'none'}, as it was when the ablation in {str(folder)!r} began, got "
        f"{copy_to}; leave it out, or choose another folder (--dir)"
    )


def write_adjusted(folder: Path, plan: "AblationPlan") -> None:
    text = dump_ablation(plan.ablation)
    if (folder / ABLATION_FILE).read_text(encoding="utf-8") != text:
        write_text(folder / ABLATION_FILE, text)
