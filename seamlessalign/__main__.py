"""`python -m seamlessalign`."""

import sys

from seamlessalign.cli import main

if __name__ == "__main__":
    sys.exit(main())
