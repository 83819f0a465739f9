"""`runners.eval` with the engines of the tests: `python -m tests.faults.eval engine=faulty`."""

from __future__ import annotations

from runners.eval import main
from tests.faults.engines import register_engines

# A worker process imports this module under another name.
if __name__ == "__main__":
    register_engines()
    main()
