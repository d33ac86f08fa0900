"""Reads the configuration: YAML in, frozen values or problems with positions out."""
