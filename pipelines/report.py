"""The report of a run: one HTML file, with sound, that needs nothing beside it.

The page has no script and forbids itself every request, so that what strangers wrote can do no harm in it.
"""

from importlib.resources import files

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.html_page import html_page
from seamlessalign.markup import join
from seamlessalign.pipelines.folder import RunFolder, run_below
from seamlessalign.pipelines.known_languages import read_confusion
from seamlessalign.pipelines.report_cost import read_costs
from seamlessalign.pipelines.report_labels import read_labels
from seamlessalign.pipelines.report_numbers import read_run
from seamlessalign.pipelines.report_page import RunDetails, sections_of, title_of
from seamlessalign.pipelines.report_samples import choose_samples
from seamlessalign.pipelines.report_spans import read_spans


def check_run(run_dir: str) -> None:
    """Raises InputError when a folder is no run."""
    if not storage.exists(RunFolder(run_dir).config):
        raise InputError(f"{run_dir}: is not the folder of a run: it has no run.yaml{run_below(run_dir)}")


def build_report(run_dir: str, *, samples_per_direction: int = 6) -> str:
    """Write `report.html` into a run's folder (local or any fsspec uri) and return its uri.

    A run that is not finished, or lacks a table, is reported as far as it goes, and the page says what is missing.
    Raises InputError when the folder is no run, StorageError naming a damaged file.
    """
    if samples_per_direction < 0:
        raise InputError(f"samples_per_direction must be 0 or more, not {samples_per_direction}")
    numbers = read_run(run_dir)
    samples = choose_samples(run_dir, samples_per_direction) if samples_per_direction else {}
    details = RunDetails(
        samples,
        read_spans(run_dir),
        read_confusion(run_dir),
        read_costs(run_dir, numbers.config),
        read_labels(run_dir),
    )
    page = html_page(
        title_of(numbers),
        join(*sections_of(run_dir, numbers, details)),
        styles=[files("seamlessalign.pipelines").joinpath("report_page.css").read_text("utf-8")],
    )
    uri = storage.join(run_dir, "report.html")
    storage.write_bytes_atomic(uri, page)
    return uri
