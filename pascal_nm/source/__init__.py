"""The torch side: QCFS networks, traced, converted, proven, and their files."""
