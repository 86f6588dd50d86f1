"""The door to rows of any kind: tables, and published test sets."""

from collections.abc import Callable

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import TestSet
from seamlessalign.training.evaluation.datasets.choice import Read
from seamlessalign.training.evaluation.datasets.covost import read_covost, read_covost_hub
from seamlessalign.training.evaluation.datasets.cvss import read_cvss
from seamlessalign.training.evaluation.datasets.fleurs import read_fleurs, read_fleurs_hub
from seamlessalign.training.evaluation.datasets.flores import read_flores, read_flores_hub
from seamlessalign.training.evaluation.rows import read_test_rows


def read_test_set(settings: TestSet, say: Callable[[str], None] = lambda _: None) -> Read:
    """Rows as a configuration names them.

    say: is told what of a published test set became rows, and what did not. Raises ConfigError, InputError where they
    cannot be had; MissingPackageError without datasets.
    """
    if settings.dataset is None:
        rows = read_test_rows(settings.place, settings.columns, src_lang=settings.src_lang, tgt_lang=settings.tgt_lang)
        return Read(rows, len(rows))
    found = _read(settings)
    for line in found.told():
        say(f"{settings.dataset}: {line}")
    if not found.rows:
        raise InputError(f"{settings.place}: no row of {settings.dataset} is left: {'; '.join(found.told()[1:])}")
    return found


def _read(settings: TestSet) -> Read:
    wanted = settings.wanted()
    if settings.hub is not None:
        return {"fleurs": read_fleurs_hub, "covost2": read_covost_hub, "flores200": read_flores_hub}[
            str(settings.dataset)
        ](settings.hub, wanted)
    place = settings.place
    match settings.dataset:
        case "fleurs":
            return read_fleurs(place, wanted)
        case "covost2":
            return read_covost(place, wanted, settings.common_voice)
        case "cvss":
            return read_cvss(place, wanted, settings.common_voice)
    return read_flores(place, wanted)
