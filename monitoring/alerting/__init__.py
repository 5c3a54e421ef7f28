"""Recording rules and alerts as code; it imports the declarations and monitoring.boards.promql."""
