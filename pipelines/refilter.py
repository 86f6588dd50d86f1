"""Choosing again in a finished run: another threshold, precision or share of wrong pairs, without mining again.

Only the tables `pairs` and `corpus` are made anew; neighbours, decoys and embeddings stay, and so do digests,
so that a later run with the same configuration goes on from here.
"""

from typing import Any

import yaml

from seamlessalign import storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import RunFolder, run_below
from seamlessalign.pipelines.report_numbers import refuse_rebuilt
from seamlessalign.pipelines.run import choose_again
from seamlessalign.typed_config import parse_written_yaml

_RULES = ("threshold", "min_precision", "fdr")


def refilter(
    root: str,
    *,
    threshold: float | None = None,
    min_precision: float | None = None,
    fdr: float | None = None,
    max_hours: float | None = None,
) -> JobResult:
    """Choose the pairs of a run's folder again by one rule, and cut their audio.

    threshold: least margin; min_precision: least estimated precision of each pair; fdr: greatest estimated share of
    wrong pairs among those kept; max_hours: of each direction, the best first. What is not given stays as the run has
    it, but a rule takes the place of another. Raises InputError where the folder is no finished run or nothing is
    given, ConfigError for values that cannot be.
    """
    refuse_rebuilt(root)
    config = read_config(root)
    given = {"threshold": threshold, "min_precision": min_precision, "fdr": fdr}
    rules = {name: value for name, value in given.items() if value is not None}
    if not rules and max_hours is None:
        raise InputError("nothing to choose by: give --threshold, --min-precision, --fdr or --max-hours")
    raw: dict[str, Any] = config.model_dump(mode="json")
    raw["output"] = root
    if rules:
        raw["mining"] |= {"threshold": "auto", "min_precision": None, "fdr": None, **rules}
    if max_hours is not None:
        raw["mining"]["filters"]["max_hours"] = max_hours
    return choose_again(parse_config(raw, "filter"))


def read_config(root: str) -> RunConfig:
    """The configuration of a run's folder. Raises InputError where it is no run, StorageError where it is damaged."""
    uri = RunFolder(root).config
    if not storage.exists(uri):
        raise InputError(f"{root}: is not the folder of a run: it has no run.yaml{run_below(root)}")
    try:
        raw = parse_written_yaml(storage.read_bytes(uri))
        raw.pop("digest", None)
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        raise StorageError(f"{uri}: is not a run's configuration: {' '.join(str(error).split())}") from error
    return parse_config(raw, uri)
