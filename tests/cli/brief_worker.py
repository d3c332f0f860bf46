"""`python -m hfcompress` but for how long it measures, in a process of its own; `python -m` starts it."""

import sys

import wrapt

from hfcompress.cli.main import main


def measure_quickly(finishing):
    """Time one short text alone, and no memory."""
    from tests.brisk import QUICK

    finishing.SETTINGS = QUICK


if __name__ == "__main__":
    # Once it is imported: what is loaded before `main` has set the environment would not heed it.
    wrapt.when_imported("hfcompress.pipeline.finishing")(measure_quickly)
    sys.exit(main())
