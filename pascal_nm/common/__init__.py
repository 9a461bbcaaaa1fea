"""What every room may use: files, folders, packages, processes, units."""
