"""`python -m bridges` is the `lla` command."""

from bridges.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
