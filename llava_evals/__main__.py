"""`python -m llava_evals`: the command where it is not on the PATH."""

import sys

from llava_evals import main

if __name__ == "__main__":
    sys.exit(main())
