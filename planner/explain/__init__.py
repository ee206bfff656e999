"""What is behind a message: ranked causes, with reasons, safe fixes and the facts that would decide."""
