import importlib.resources

import tcptable as tt
from tcptable import socketmap


def test_all_names_are_there_and_sorted() -> None:
    """The public names, flat, and nothing else."""
    public = {name for name in vars(tt) if not name.startswith("_")} - {"socketmap"}
    assert set(tt.__all__) == public
    assert len(tt.__all__) == len(set(tt.__all__))
    assert set(socketmap.__all__) <= set(vars(socketmap))


def test_it_is_typed() -> None:
    """Type checkers look for this file."""
    assert importlib.resources.files(tt).joinpath("py.typed").is_file()
