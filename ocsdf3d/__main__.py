"""`python -m ocsdf3d`: the same as the console script."""

from __future__ import annotations

import sys

from ocsdf3d.cli import main

if __name__ == "__main__":
    sys.exit(main())
