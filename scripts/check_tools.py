"""Say in one sentence what is missing, before anything is installed. Runs on any Python 3."""

import re
import shutil
import subprocess
import sys

NODE_MIN = (20, 19)


def missing():
    """Sentences about what this computer lacks; empty if `make run` can go on."""
    found = []
    if sys.version_info < (3, 11):
        found.append(
            "Candor needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.11 run" % sys.version_info[:2]
        )
    try:
        import ensurepip  # noqa: F401  # asked for, not used: Debian keeps it in a package of its own
    except ImportError:
        found.append("This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv")
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        found.append("Candor needs Node.js 20.19 or newer, with npm, to build the browser client.")
    else:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        numbers = re.match(r"v(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < NODE_MIN:
            found.append("Candor needs Node.js 20.19 or newer; this is %s." % (version.strip() or "unknown"))
    return found


if __name__ == "__main__":
    sentences = missing()
    sys.stderr.write("".join(sentence + "\n" for sentence in sentences))
    sys.exit(1 if sentences else 0)
