"""Runs one probe: `python3 probes.zip NAME JOB` prints its facts as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the probe that the first argument names with the job in the second."""
    name, job = sys.argv[1:]
    secrets = json.loads(Path(os.environ["RATSSAAL_PROBE_SECRETS"]).read_text() or "{}")
    probe = importlib.import_module(f"{__package__}.{name}")
    print(json.dumps(probe.run(json.loads(job), secrets)))


if __name__ == "__main__":
    main()
