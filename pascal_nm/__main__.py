"""The command line as a program: ``pascal-nm``, or ``python -m pascal_nm``.

The latter is for launchers (``accelerate launch -m pascal_nm train …``).
"""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it; an interruption while it loads is one like any other."""
    try:
        from pascal_nm.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
