"""`python -m jaxrec`."""

import sys

from jaxrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
