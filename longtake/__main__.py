"""`python -m longtake` is the console script `longtake`."""

from __future__ import annotations

from longtake.cli import main

if __name__ == "__main__":
    main()
