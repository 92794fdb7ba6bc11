import importlib.metadata

import milterproto as mp


def test_all_names_are_there_and_sorted() -> None:
    """The public names, flat, and nothing else."""
    public = {name for name in vars(mp) if not name.startswith("_")} - {"message", "testing"}
    assert set(mp.__all__) == public
    assert len(mp.__all__) == len(set(mp.__all__))


def test_the_version_is_the_distributions() -> None:
    """One place says it."""
    assert mp.__version__ == importlib.metadata.version("mailwire")
