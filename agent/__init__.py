"""What runs in and around the patched process: agent, journal, transport."""
