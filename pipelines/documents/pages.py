"""Which pages of docs/ are written from the source."""

from collections.abc import Callable, Mapping

from seamlessalign.pipelines.documents.commands import command_page
from seamlessalign.pipelines.documents.configurations import configuration_page

PAGES: Mapping[str, Callable[[], str]] = {"commands.md": command_page, "configuration.md": configuration_page}
