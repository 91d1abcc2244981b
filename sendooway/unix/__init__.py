"""What a process is: how it is born, whose it is, and what it may do."""
