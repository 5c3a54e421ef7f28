"""Tests of what is exported, and of what is made of it: dashboards, rules, alerts."""
