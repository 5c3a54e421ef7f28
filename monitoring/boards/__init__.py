"""Dashboards as code; it imports the declarations."""
