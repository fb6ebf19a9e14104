"""Exchange: routing recorded by other engines in, tables for other programs out."""

from turnout.exchange.exporting import export
from turnout.exchange.importing import NOT_COMPUTED, Imported, import_routed
from turnout.exchange.samples import ImportConfig

__all__ = ["NOT_COMPUTED", "ImportConfig", "Imported", "export", "import_routed"]
