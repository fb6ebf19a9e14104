"""Page, terminal tables and paper figures of an audit, an imported trace or an evaluation."""
