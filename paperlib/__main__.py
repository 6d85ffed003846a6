"""`python -m paperlib`: see paperlib.runs.command."""
import sys

from paperlib.runs.command import main

if __name__ == "__main__":
    sys.exit(main())
