"""Rows of a data set that the package datasets loads: a folder of Parquet files with a card, or a name on a hub.

Sound must be where it can be read again and again, so what does not lie in Parquet files here is written as one, into
the cache of the package.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seamlessalign.errors import InputError, MissingPackageError
from seamlessalign.speech_sources import Sound, parquet_rows


def hub_values(
    name: str, config: str | None, split: str, sound: str | None = None
) -> Iterator[tuple[str, dict[str, Any], Sound | None]]:
    """Rows of a split: where they are, values, and the sound of the column that is named, which is not read.

    Raises InputError where there is no such thing, MissingPackageError without datasets.
    """
    for file in _files(name, config, split, sound):
        for path, row, values in parquet_rows(str(file), lambda _, names: [n for n in names if n != sound]):
            yield f"{path} row {row}", values, None if sound is None else Sound(str(path), row, sound)


def hub_configs(name: str) -> list[str]:
    """Configurations that a data set has. Raises as above."""
    try:
        return list(_package().get_dataset_config_names(name))
    except (OSError, ValueError, RuntimeError) as error:
        raise _wrong(name, error) from error


def _files(name: str, config: str | None, split: str, sound: str | None) -> Sequence[Path]:
    datasets = _package()
    try:
        builder = datasets.load_dataset_builder(name, config)
        if builder.info.builder_name == "parquet" and Path(name).is_dir():
            if split not in builder.config.data_files:
                raise InputError(f"{name}: {config} has the splits {', '.join(builder.config.data_files)}, not {split}")
            return [Path(file) for file in builder.config.data_files[split]]
        data = datasets.load_dataset(name, config, split=split)
        if sound is not None:
            data = data.cast_column(sound, datasets.Audio(decode=False))
        file = Path(datasets.config.HF_DATASETS_CACHE) / "seamlessalign" / f"{data._fingerprint}.parquet"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            data.to_parquet(str(part))
            part.replace(file)
    except (OSError, ValueError, RuntimeError) as error:  # those of its hub are OSErrors
        raise _wrong(f"{name}, {config}", error) from error
    return [file]


def _wrong(what: str, error: Exception) -> InputError:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(f"{what}: cannot be loaded as a data set: {line}; fetch its files and give rows.path")


def _package() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingPackageError("datasets", "training", "rows.hub") from error
    return datasets
