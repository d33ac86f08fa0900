"""Notifications: which change of a job's state is reported, in what words, and how a message is
sent.
"""
