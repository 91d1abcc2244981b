"""`python -m sendooway`."""

import sys

from sendooway.cli import main

sys.exit(main())
