"""SeamlessAlign: build speech-translation corpora from raw audio and raw text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from seamlessalign.pipelines.opened_run import Run

__version__ = "0.1.0"


def open_run(root: "str | PathLike[str]", *, unfinished: bool = False) -> "Run":
    """A run's folder opened for a notebook: tables, pairs to hear, pictures, choices of pairs (docs/notebook.md).

    root: a local folder, or any uri. unfinished: open what there is of a run that has not ended. Raises InputError
    where there is no run or it is not finished, MissingPackageError without the extra `curate`.
    """
    from seamlessalign.pipelines.opened_run import Run

    return Run(root, unfinished=unfinished)
