"""`python -m paperlib reproduce` and `python -m paperlib data`: see paperlib.reproduce and paperlib.inventory."""
import sys

from paperlib.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
