"""Pages as tests read them."""

from collections import Counter
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a reader would find: headline numbers, checks, audio, the elements and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.numbers: dict[str, str] = {}
        self.checks: dict[str, str] = {}
        self.audio: list[str] = []
        self.cards: list[str] = []
        self.elements = Counter[str]()
        self.attributes: set[str] = set()
        self.text = ""
        self.cells: list[list[str]] = []
        self._in_cell = False
        self._target: tuple[dict[str, str], str] | None = None
        self.feed(source)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.elements[name] += 1
        self.attributes |= values.keys()
        if name == "audio":
            self.audio.append(values["src"] or "")
        if name == "article":
            self.cards.append(values["class"] or "")
        if name == "tr":
            self.cells.append([])
        if name in ("td", "th"):
            self.cells[-1].append("")
            self._in_cell = True
        for kind, where in (("data-number", self.numbers), ("data-stage", self.checks)):
            if key := values.get(kind):
                self._target = (where, key)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._target:
            self._target[0][self._target[1]] = data
            self._target = None
        if self._in_cell:
            self.cells[-1][-1] += data

    def handle_endtag(self, name: str) -> None:
        if name in ("td", "th"):
            self._in_cell = False

    def row(self, *start: str) -> list[str]:
        """The only table row that starts so."""
        found = [cells for cells in self.cells if tuple(cells[: len(start)]) == start]
        assert len(found) == 1, (start, found)
        return found[0]
