"""Dashboards as code; it imports the declarations and the core's errors."""
