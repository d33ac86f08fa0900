"""Starts `syncd`, also as `python -m syncd`.

The nothing-to-do check runs first; the command line runs if that can't decide.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

# new objects: a command makes many values and few cycles, and looking for cycles after 50,000 of
# them costs 3 % to 6 % of a run over 5,000 files, Python's default a tenth
GC_THRESHOLD = 500_000
SWITCH_INTERVAL_SECONDS = (
    0.0005  # Python's 0.005 delays each step of an exchange beside a thread that computes
)


def main() -> None:
    """Run the command. Raises SystemExit with its exit code (contract section 3)."""
    gc.set_threshold(GC_THRESHOLD)
    from syncd.output import never_fail

    never_fail()
    from syncd.encoding import ensure_utf8_mode

    ensure_utf8_mode()
    if os.getpid() == 1:  # of a container
        from syncd.init_process import become_init

        become_init()
    from syncd.core_dumps import forbid_dumps
    from syncd.fastpath.check import UpToDate, check

    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        forbid_dumps()
        found = check(sys.argv[1:], os.environ, time.time())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except KeyboardInterrupt:
        from syncd.output import echo

        echo("interrupted", err=True)
        sys.exit(130)
    if not isinstance(found, UpToDate):
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        from syncd.cli.main import run

        code = run(None, found)
    else:
        code = 0
        if not found.args.quiet or found.args.json:
            from syncd.cli.run_output import print_up_to_date
            from syncd.output import use_colour

            use_colour(found.args.colour, os.environ)
            print_up_to_date(found)
    sys.exit(code)


def run_process() -> None:
    """Run the command, and end the process with it."""
    try:
        main()
    except SystemExit as ended:
        from syncd.output import end_process

        gc.freeze()  # where Python ends as usual, looking for cycles first costs 20 ms
        end_process(ended.code if isinstance(ended.code, int) else 0)


if __name__ == "__main__":
    run_process()
