"""Check that the base install stayed lean: `python -m candor.lean` fails if a heavy package slipped in."""

import importlib.metadata
import sys

HEAVY = ("torch", "matplotlib")


def heavy_packages() -> list[str]:
    """Installed distributions that a base install must not have."""
    names = {(dist.metadata["Name"] or "").lower() for dist in importlib.metadata.distributions()}
    return sorted(name for name in names if name in HEAVY or name.startswith("nvidia"))


def main() -> int:
    """Exit status 1, and the names, if there are any. `make run` asks unless `make models` installed them on purpose."""
    found = heavy_packages()
    if found:
        sys.stderr.write(f"This environment is not a lean base install; found: {', '.join(found)}\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
