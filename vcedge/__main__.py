"""``python -m vcedge``: the command line where its script is not on the path."""

from __future__ import annotations

from vcedge.cli import main

if __name__ == "__main__":
    main()
