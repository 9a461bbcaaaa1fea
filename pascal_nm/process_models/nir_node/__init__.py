"""Nodes of NIR files that other tools wrote."""
