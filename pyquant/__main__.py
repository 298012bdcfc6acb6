"""``python -m pyquant``: the command line."""

from pyquant.cli import main

if __name__ == "__main__":
    main()
