"""`python -m hf_langcore` is `langcore`."""

from __future__ import annotations

from hf_langcore.cli.main import main

if __name__ == "__main__":
    main()
