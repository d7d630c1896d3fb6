"""``python -m batchsense`` is the command ``batchsense``."""

from batchsense.cli.main import main

if __name__ == "__main__":
    main()
