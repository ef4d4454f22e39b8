"""``python -m dagrpo`` is the command ``dagrpo``."""

from dagrpo.cli import main

if __name__ == "__main__":
    main()
