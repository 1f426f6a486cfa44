"""`python -m bridges` is the `lla` command."""

from bridges.command import main

if __name__ == "__main__":
    raise SystemExit(main())
