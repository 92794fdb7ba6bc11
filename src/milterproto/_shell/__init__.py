"""What `python -m milterproto` is made of, without its input and output.

All here is pure, or talks over a `Wire` that it is given; sockets, files, the clock and the
terminal are `__main__`'s.
"""
