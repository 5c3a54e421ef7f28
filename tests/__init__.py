"""Tests of Longtake; the folders mirror the packages."""
