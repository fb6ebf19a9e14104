"""Exchange: routing recorded by other engines in, tables for other programs out."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "NOT_COMPUTED": "turnout.exchange.importing",
        "ImportConfig": "turnout.exchange.config",
        "Imported": "turnout.exchange.importing",
        "export": "turnout.exchange.exporting",
    },
)
