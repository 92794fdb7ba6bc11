import importlib.resources

import dovecotauth as da


def test_all_names_are_there_and_sorted() -> None:
    """The public names, flat, and nothing else."""
    public = {name for name in vars(da) if not name.startswith("_")} - {"master"}
    assert set(da.__all__) == public
    assert len(da.__all__) == len(set(da.__all__))


def test_it_is_typed() -> None:
    """Type checkers look for this file."""
    assert importlib.resources.files(da).joinpath("py.typed").is_file()
