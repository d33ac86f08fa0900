"""measure.py RESULT COMMAND…: runs the command; its wall seconds, CPU seconds of all its processes
and the largest one's peak memory as JSON.

Small on purpose: a process begins with the peak memory of the one that started it.
"""

import os
import sys
import time

began = time.perf_counter()
code = os.waitstatus_to_exitcode(
    os.waitpid(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)[1]
)
wall = time.perf_counter() - began
import json  # noqa: E402  (not before the command has run)
import resource  # noqa: E402

used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump(
        {
            "code": code,
            "wall": wall,
            "cpu": used.ru_utime + used.ru_stime,
            "rss_mb": used.ru_maxrss / 1024,
        },
        file,
    )
