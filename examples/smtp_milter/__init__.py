"""A milter in front of any SMTP filtering gateway: see README.md beside this file."""
