"""``python -m vidinv``."""

import sys

from vidinv.cli import main

if __name__ == "__main__":
    sys.exit(main())
