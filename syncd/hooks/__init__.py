"""The operator's commands: run, bounded, and shown what they are to judge."""
