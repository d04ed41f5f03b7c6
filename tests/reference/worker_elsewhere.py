"""A worker process of `predict --processes` whose cache is another folder than the command's: that of WORKERS_CACHE."""

import os
import sys

if __name__ == "__main__":
    os.environ["WORKBENCH_CACHE"] = os.environ["WORKERS_CACHE"]
    from workbench.prediction.engines import process_worker

    process_worker.main(int(sys.argv[1]))
