"""``python -m scansearch``, for torchrun."""

from scansearch.cli import main

if __name__ == "__main__":
    main()
