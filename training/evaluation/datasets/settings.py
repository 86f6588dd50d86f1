"""Keys of a configuration that choose rows of a published test set."""

from pathlib import Path
from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from seamlessalign.training.evaluation.datasets.choice import Task, Wanted
from seamlessalign.typed_config import Section, beside

DataSetName = Literal["fleurs", "covost2", "cvss", "flores200"]
# the split on which systems are compared, and what is measured on it, unless something else is said
_USUAL: dict[str, tuple[str, Task]] = {
    "fleurs": ("test", "s2tt"),
    "covost2": ("test", "s2tt"),
    "cvss": ("test", "s2st"),
    "flores200": ("devtest", "t2tt"),
}


class DataSet(Section):
    """Rows of a published test set, from its files in `path`, or through the package datasets."""

    dataset: DataSetName | None = None  # None: rows are a table
    path: str | None = None  # table of rows, or folder of the published set
    hub: str | None = None  # instead of path: a name on a hub, or a folder of Parquet files with a card
    split: str | None = None  # by default the one on which systems are compared
    task: Task | None = None  # by default what is usual of the set
    directions: str | list[str] | None = None  # x-eng, eng-x, all; or such as [fra-eng, eng-fra], [fra] for asr
    languages: list[str] = []  # of x-eng, eng-x and all: codes, or seamlessm4t, whisper: what these translate
    limit: PositiveInt | None = None  # rows of each direction, the first ones
    common_voice: str | None = None  # folder of Common Voice 4, of which covost2 and cvss are made

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.dataset is None:
            given = self.model_fields_set & set(DataSet.model_fields) - {"path", "dataset"}
            if given:
                raise ValueError(f"{sorted(given)[0]} goes with dataset, which is not given")
            if self.path is None:
                raise ValueError("give path, a table of rows, or dataset, a published test set")
            return self
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"{self.dataset}: give path, its folder, or hub, a name that the package datasets loads")
        if self.directions is None:
            raise ValueError(f"{self.dataset}: give directions: x-eng, eng-x, all, or a list such as [fra-eng]")
        if self.dataset == "cvss" and self.hub is not None:
            raise ValueError("cvss: no hub has it as tables: give path, its folder")
        if self.common_voice is not None and (self.dataset not in ("covost2", "cvss") or self.hub is not None):
            raise ValueError("common_voice goes with a path of covost2 or cvss")
        return self

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file; a hub is one where there is such a folder."""
        given = {key: value for key in ("path", "common_voice") if (value := getattr(self, key)) is not None}
        near = {key: beside(file, value) for key, value in given.items()}
        if self.hub is not None and Path(beside(file, self.hub)).is_dir():
            near["hub"] = beside(file, self.hub)
        return self.model_copy(update=near)

    @property
    def place(self) -> str:
        """Where the rows come from, for people."""
        return self.path or self.hub or ""

    def wanted(self) -> Wanted:
        """What of the test set is wanted."""
        assert self.dataset is not None and self.directions is not None
        split, task = _USUAL[self.dataset]
        return Wanted(self.split or split, self.task or task, self.directions, tuple(self.languages), limit=self.limit)
