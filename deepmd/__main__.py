"""`python -m deepmd` is `dp`."""

import sys

from deepmd.cli import main

sys.exit(main())
