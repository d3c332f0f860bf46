"""`hfcompress env`: versions and hardware, for bug reports."""

from __future__ import annotations

from hfcompress.cli.options import Request, Verb
from hfcompress.cli.output import Output, table


def run(request: Request, output: Output) -> None:
    """Show versions and hardware; no host or user name, no path, no token."""
    from hfcompress.environment import hardware, versions

    machine = {name: value for name, value in hardware().items() if value is not None}
    values = {**versions(), **machine}
    output.result(values, table(["what", "value"], [[name, str(value)] for name, value in values.items()]))


VERB = Verb(
    help="Show versions and hardware, for bug reports.", examples=("hfcompress env --json",), groups=(), run=run
)
