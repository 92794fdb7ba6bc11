import importlib.resources

import nginxauth as ng


def test_all_names_are_there_and_sorted() -> None:
    """The public names, flat, and nothing else; a module of its own is not one of them."""
    public = {name for name in vars(ng) if not name.startswith("_")} - {"xclient"}
    assert set(ng.__all__) == public
    assert len(ng.__all__) == len(set(ng.__all__))


def test_it_is_typed() -> None:
    """Type checkers look for this file."""
    assert importlib.resources.files(ng).joinpath("py.typed").is_file()
