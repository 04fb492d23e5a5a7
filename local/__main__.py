"""`python -m local` is `make run` where everything is installed."""

import os
import sys

from local.launcher import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# What is still at work on another thread, such as the building of an image, is not waited for: its programs end with us.
os._exit(code)
