"""`python -m urial_local` is the command `urial-local`."""

from urial_local.cli.main import main

if __name__ == "__main__":
    main()
