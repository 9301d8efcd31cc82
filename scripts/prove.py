"""`make prove`: brings what the proof needs from the distribution, then runs `python -m tests.prove` with the
same arguments."""

import subprocess
import sys

import debian

if __name__ == "__main__":
    debian.bring(for_proof=True)
    command = [sys.executable, "-m", "tests.prove", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=debian.PACKAGES.parent.parent).returncode)
