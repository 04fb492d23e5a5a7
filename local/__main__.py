"""`python -m local` is `make run` where everything is installed."""

import sys

from local.launcher import main

sys.exit(main())
