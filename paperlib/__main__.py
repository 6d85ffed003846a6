"""`python -m paperlib reproduce`: see paperlib.reproduce."""
import sys

from paperlib.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
