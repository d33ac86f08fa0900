"""What a configuration needs of its systemd unit, and the drop-in that grants it."""
