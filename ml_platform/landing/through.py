"""Up to which day everything is known: landed as files, or whole where it stands."""

from datetime import date

from ml_platform.landing.external import read_external_tables
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loaded import read_loaded
from ml_platform.landing.tables import DAILY
from ml_platform.settings import Settings


def known_through(settings: Settings) -> date | None:
    """The newest such day; None before the first. Raises ConfigurationError, LoadedUnreadable."""
    external = read_external_tables(settings.external_tables)
    noted = [read_loaded(settings.lake, name) for name in external]
    ends = [each.landed_on if each else None for each in noted]
    if landing := [name for name in DAILY if name not in external]:
        ends.append(LandingFolder(settings.landing).landed_through(landing))
    known = [end for end in ends if end is not None]
    return min(known) if len(known) == len(ends) else None
