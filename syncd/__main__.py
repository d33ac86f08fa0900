"""`syncd`, and `python -m syncd`: the quick check first, and the command line where it has no opinion."""

from __future__ import annotations

import os
import signal
import sys
import time

RINGS_AFTER = 50_000  # new objects. A command makes many values and few rings, and looking for those as often as Python does is a tenth of its time
TURN_SECONDS = 0.0005  # of a thread that computes; in Python's 0.005 each step of an exchange beside it comes so much later


def main() -> None:
    """Leave the process with the command's exit code (contract section 3)."""
    from syncd.output import never_fail

    never_fail()
    from syncd.encoding import use_bytes_for_names

    use_bytes_for_names()
    from syncd.dumps import forbid_dumps
    from syncd.quick import InStep, check

    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        forbid_dumps()
        found = check(sys.argv[1:], os.environ, time.time())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except KeyboardInterrupt:
        from syncd.output import echo

        echo("interrupted", err=True)
        sys.exit(130)
    if not isinstance(found, InStep):
        import gc

        gc.set_threshold(RINGS_AFTER)
        sys.setswitchinterval(TURN_SECONDS)
        from syncd.cli.main import run

        code = run(None, found)
        gc.freeze()  # all memory is given back at once: who looks through it for rings first is 20 ms late
        sys.exit(code)
    if not found.asked.quiet or found.asked.json:
        from syncd.cli.quiet import say

        say(found)
    sys.exit(0)


if __name__ == "__main__":
    main()
