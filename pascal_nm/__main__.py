"""``python -m pascal_nm``: the command line, for programs that start modules (``accelerate launch -m pascal_nm train …``)."""

from pascal_nm.cli.main import main

if __name__ == "__main__":
    main()
