"""What the commands of the command line do; each yields the lines that cli.py prints."""
