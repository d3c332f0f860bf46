"""`python -m hfcompress`, for `accelerate launch -m hfcompress`."""

import sys

from hfcompress.cli.main import main

sys.exit(main())
