"""Works out what a configuration needs of its systemd unit, and writes the drop-in that
grants it.
"""
