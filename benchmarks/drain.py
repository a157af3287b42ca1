"""Issues a second from one large course, the last tenth of a long run beside its first tenth.

All the while another session holds a transaction open, so that nothing that was issued can be vacuumed away. One in a
hundred issues is rolled back, and as many codes are returned to the pool. Then twenty clients take the last 1,000 codes
of a course, beside the first 1,000 of it. See `benchmarks.draining`; `--large` issues 500,000 of 1,000,000.
"""

from __future__ import annotations

import sys

from benchmarks.desk import run_with_settings

if __name__ == "__main__":
    run_with_settings("benchmarks.draining", *sys.argv[1:])
