"""`python -m facewright`, which is also what `torchrun -m facewright` starts."""

import sys

from facewright.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
