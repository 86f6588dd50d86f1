"""Write the pages of docs/ that come from the source; with --pictures those of docs/concepts.md too."""

import argparse
import sys
from pathlib import Path

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.documents.pages import PAGES


def main() -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser("python -m seamlessalign.pipelines.documents", description=__doc__)
    parser.add_argument("--to", default="docs", metavar="DIR", help="folder of the pages (default: %(default)s)")
    parser.add_argument("--pictures", metavar="DEMO", help="folder of a finished demo: draw concepts.md's too")
    arguments = parser.parse_args()
    for name, page in PAGES.items():
        path = Path(arguments.to) / name
        storage.write_bytes_atomic(str(path), page().encode())
        print(path)
    if arguments.pictures:
        from seamlessalign.pipelines.documents.pictures import write_pictures

        try:
            told = write_pictures(arguments.pictures, Path(arguments.to))
        except SeamlessAlignError as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return error.exit_status
        print(*told, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
