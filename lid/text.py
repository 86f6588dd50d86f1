"""Which language a text is in: fastText's lid.176 (Joulin et al. 2016), quantised or full."""

from collections.abc import Sequence
from functools import cache

from seamlessalign.errors import MissingPackageError, ModelError
from seamlessalign.languages import from_model_code
from seamlessalign.model_files import ModelFiles, find_model


class TextLid:
    """A text language identifier; `name` and `sha256` are its fingerprint."""

    def __init__(self, files: ModelFiles) -> None:
        try:
            import fasttext
        except ImportError as error:
            raise MissingPackageError("fasttext-predict", "embedded", "text language identification") from error
        self.name = files.name
        self.sha256 = files.sha256
        try:
            self._model = fasttext.load_model(str(files.weights[0]))
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"model {files.name!r}: {files.weights[0]} is not a fastText model: {error}") from error

    def identify(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """(ISO 639-3, probability) of each text's likeliest language.

        The language is None where the likeliest is not in the language table.
        """
        results: list[tuple[str | None, float]] = []
        for text in texts:
            found = self._model.predict(text.replace("\n", " "), 1, 0.0, "strict")
            label, probability = _first(found)
            results.append((from_model_code(label, "fasttext"), min(probability, 1.0)))
        return results


@cache
def load_text_lid(name: str = "fasttext-lid176", directory: str | None = None) -> TextLid:
    """Load a text language identifier: `fasttext-lid176`."""
    if name != "fasttext-lid176":
        raise ModelError(f"text language identifier {name!r} is not known; there is fasttext-lid176")
    return TextLid(find_model(name, directory))


def _first(found: tuple[Sequence[str], Sequence[float]]) -> tuple[str, float]:
    labels, probabilities = found
    if not len(labels):
        return "", 0.0
    return labels[0].removeprefix("__label__"), float(probabilities[0])
